//! A layer between SQLite and its Unix VFS that tells a [`Disk`] what happens
//! to files in its directory, and makes syncs fail.
//!
//! The one file of tests with `unsafe`: SQLite calls a VFS through C function
//! pointers and raw file structures, for which there is no safe binding. It is
//! installed as the default, because the queue opens its files as it always
//! does; files of directories that nobody watches are handed to the Unix VFS
//! wholly, with its own methods.
#![expect(
    unsafe_code,
    reason = "a VFS is a table of C functions over raw pointers"
)]

use std::{
    ffi::{CStr, OsStr, c_char, c_int, c_void},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    slice,
    sync::{Arc, Once},
};

use rusqlite::ffi;

use super::{Change, Disk, FileId, watched};

/// What stands before the Unix VFS's own structure in the memory that SQLite
/// gives to an open file.
#[repr(C, align(8))]
struct Layer {
    base: ffi::sqlite3_file,
    disk: *const Disk,
    file: FileId,
    /// As in the Unix VFS: the first sync of a new log syncs its directory.
    directory_too: bool,
}

const LAYER_BYTES: usize = size_of::<Layer>();

/// Without shared memory and mapping: the queue locks its file exclusively.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// Makes the layer SQLite's default, once for the process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the default VFS of the Unix build is there and is never
        // unregistered; the copy and what it points to live for ever. Of the
        // functions that are kept, none looks at its VFS but for `mxPathname`.
        unsafe {
            let below = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!below.is_null(), "SQLite has a VFS");
            let mut layer = *below;
            layer.szOsFile += c_int::try_from(LAYER_BYTES).unwrap();
            layer.zName = c"recorded".as_ptr();
            layer.pAppData = below.cast();
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(layer)), 1);
            assert_eq!(code, ffi::SQLITE_OK);
        }
    });
}

/// The disk and the name of a file that SQLite names; `None` for temporary and
/// unwatched ones.
///
/// # Safety
/// `name` is null or a C string.
unsafe fn watched_name(name: *const c_char) -> Option<(Arc<Disk>, String)> {
    if name.is_null() {
        return None;
    }
    // SAFETY: promised by the caller.
    let name = unsafe { CStr::from_ptr(name) };
    watched(Path::new(OsStr::from_bytes(name.to_bytes())))
}

/// # Safety
/// `vfs` is the one that [`install`] made; the others as SQLite's `xOpen`.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite keeps the contract of `xOpen`; `file` has room for the
    // layer and for the structure of the VFS below, by `szOsFile`.
    unsafe {
        let below: *mut ffi::sqlite3_vfs = (*vfs).pAppData.cast();
        let Some(open_below) = (*below).xOpen else {
            return ffi::SQLITE_CANTOPEN;
        };
        let Some((disk, name_within)) = watched_name(name) else {
            return open_below(below, name, file, flags, out_flags);
        };
        (*file).pMethods = std::ptr::null();
        let code = open_below(below, name, below_of(file), flags, out_flags);
        if code != ffi::SQLITE_OK {
            return code;
        }
        let directory_too = flags & ffi::SQLITE_OPEN_CREATE != 0
            && flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
        let id = disk.opened(&name_within);
        file.cast::<Layer>().write(Layer {
            base: ffi::sqlite3_file { pMethods: &METHODS },
            disk: Arc::into_raw(disk),
            file: id,
            directory_too,
        });
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    sync_directory: c_int,
) -> c_int {
    // SAFETY: SQLite keeps the contract of `xDelete`.
    unsafe {
        let below: *mut ffi::sqlite3_vfs = (*vfs).pAppData.cast();
        let Some(delete_below) = (*below).xDelete else {
            return ffi::SQLITE_IOERR_DELETE;
        };
        let Some((disk, name_within)) = watched_name(name) else {
            return delete_below(below, name, sync_directory);
        };
        let code = delete_below(below, name, 0);
        if code == ffi::SQLITE_OK {
            disk.removed(&name_within);
            if sync_directory != 0 && !disk.directory_synced() {
                return ffi::SQLITE_IOERR_DIR_FSYNC;
            }
        }
        code
    }
}

/// The structure of the VFS below, behind the layer.
///
/// # Safety
/// `file` points to memory of `szOsFile` bytes.
unsafe fn below_of(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: within `szOsFile`; the layer is aligned to 8 bytes, as SQLite aligns, and as long
    // as a multiple of them.
    unsafe { file.cast::<u8>().add(LAYER_BYTES).cast() }
}

/// The disk that `file` belongs to, its layer, and the file below.
///
/// # Safety
/// `file` was opened by [`open`] with [`METHODS`], and is not closed.
unsafe fn parts<'f>(
    file: *mut ffi::sqlite3_file,
) -> (&'f Disk, &'f mut Layer, *mut ffi::sqlite3_file) {
    // SAFETY: `open` wrote the layer; the disk lives as long as the file holds
    // its reference; SQLite uses a file from one thread at a time.
    unsafe {
        let layer = &mut *file.cast::<Layer>();
        (&*layer.disk, layer, below_of(file))
    }
}

/// Calls a method of the file below.
macro_rules! below {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let below = below_of($file);
        match (*(*below).pMethods).$method {
            Some(method) => method(below $(, $argument)*),
            None => ffi::SQLITE_IOERR,
        }
    }};
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as for `parts`; the reference is given back once, here.
    unsafe {
        drop(Arc::from_raw((*file.cast::<Layer>()).disk));
        below!(file, xClose)
    }
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite keeps the contract of `xRead`.
    unsafe { below!(file, xRead, into, length, offset) }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite keeps the contract of `xWrite`: `from` holds `length`
    // bytes.
    unsafe {
        let code = below!(file, xWrite, from, length, offset);
        if code == ffi::SQLITE_OK {
            let (disk, layer, _) = parts(file);
            let length = usize::try_from(length).unwrap_or(0);
            disk.changed(Change::Write {
                file: layer.file,
                offset: offset.unsigned_abs(),
                bytes: slice::from_raw_parts(from.cast::<u8>(), length).to_vec(),
            });
        }
        code
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: SQLite keeps the contract of `xTruncate`.
    unsafe {
        let code = below!(file, xTruncate, length);
        if code == ffi::SQLITE_OK {
            let (disk, layer, _) = parts(file);
            disk.changed(Change::Truncate {
                file: layer.file,
                length: length.unsigned_abs(),
            });
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: SQLite keeps the contract of `xSync`.
    unsafe {
        let (disk, layer, _) = parts(file);
        if !disk.synced(layer.file) {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        // Its failure is of no consequence in the Unix VFS either.
        if layer.directory_too {
            disk.directory_synced();
            layer.directory_too = false;
        }
        ffi::SQLITE_OK
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite keeps the contract of `xFileSize`.
    unsafe { below!(file, xFileSize, size) }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite keeps the contract of `xLock`.
    unsafe { below!(file, xLock, level) }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite keeps the contract of `xUnlock`.
    unsafe { below!(file, xUnlock, level) }
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: SQLite keeps the contract of `xCheckReservedLock`.
    unsafe { below!(file, xCheckReservedLock, out) }
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: SQLite keeps the contract of `xFileControl`.
    unsafe { below!(file, xFileControl, operation, argument) }
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as for `parts`.
    unsafe { below!(file, xSectorSize) }
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: as for `parts`.
    unsafe { below!(file, xDeviceCharacteristics) }
}
