//! Exit codes, all of them, in one place; `--help` prints them. The numbers are those of
//! `sysexits.h`, so that scripts can tell what to do.

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// As it should.
    Success = 0,
    /// `emit`: an event was refused; sending it again does not help.
    /// `decisions`: this user may not follow, or the agent takes none.
    Refused = 1,
    /// The command line is wrong.
    Usage = 64,
    /// `emit`, `decisions`, `status`: no agent answers on the socket.
    Unavailable = 69,
    /// A part of the agent ended unasked; start it again.
    Software = 70,
    /// Socket or queue directory cannot be made.
    CannotCreate = 73,
    /// Busy, or another agent runs; try again later.
    TemporaryFailure = 75,
    /// The configuration, or a file that it names, is wrong; starting again
    /// does not help.
    Configuration = 78,
}
