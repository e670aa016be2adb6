//! Finds the common name in a certificate's subject: just enough DER (ITU-T
//! X.690) for an X.501 name, on bytes that webpki has already walked over.

/// Object id 2.5.4.3, commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// The common name in `name`, the content of a subject's outer SEQUENCE;
/// `None` where there is none, several, or it is in an encoding other than
/// UTF-8, printable or IA5 (a device id fits in each of them). Several are
/// refused because the broker may read another than we do.
pub(super) fn common_name(name: &[u8]) -> Option<String> {
    let mut found = None;
    let mut rest = name;
    while !rest.is_empty() {
        let mut set = take(&mut rest, SET)?;
        while !set.is_empty() {
            let mut attribute = take(&mut set, SEQUENCE)?;
            if take(&mut attribute, OBJECT_ID)? != COMMON_NAME {
                continue;
            }
            let tag = *attribute.first()?;
            if !matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
                return None;
            }
            let text = str::from_utf8(take(&mut attribute, tag)?).ok()?;
            if found.replace(text.to_owned()).is_some() {
                return None;
            }
        }
    }
    found
}

/// Takes one element with this tag off the front and returns its content.
fn take<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, after_tag) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, after_length) = after_tag.split_first()?;
    let (length, content) = match *length {
        short @ 0..=0x7f => (usize::from(short), after_length),
        // A subject is far shorter than 64 KiB: one or two length bytes.
        0x81 => {
            let (length, content) = after_length.split_first()?;
            (usize::from(*length), content)
        }
        0x82 => {
            let (length, content) = after_length.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), content)
        }
        _ => return None,
    };
    let (content, after) = content.split_at_checked(length)?;
    *rest = after;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = match length {
            0..0x80 => vec![tag, u8::try_from(length).unwrap()],
            _ => vec![tag, 0x81, u8::try_from(length).unwrap()],
        };
        bytes.extend_from_slice(content);
        bytes
    }

    fn attribute(id: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        let pair = [element(OBJECT_ID, id), element(tag, text)].concat();
        element(SET, &element(SEQUENCE, &pair))
    }

    const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

    #[test]
    fn the_common_name_is_found_among_other_attributes() {
        let name = [
            attribute(ORGANISATION, UTF8_STRING, &[b'x'; 100]),
            attribute(COMMON_NAME, PRINTABLE_STRING, b"box-1"),
        ]
        .concat();
        assert_eq!(common_name(&name).as_deref(), Some("box-1"));
    }

    #[test]
    fn names_without_exactly_one_readable_common_name_are_refused() {
        let one = attribute(COMMON_NAME, UTF8_STRING, b"a");
        let bmp_string = 0x1e;
        for name in [
            Vec::new(),
            attribute(ORGANISATION, UTF8_STRING, b"a"),
            [one.clone(), one.clone()].concat(),
            attribute(COMMON_NAME, bmp_string, b"\0a"),
            attribute(COMMON_NAME, UTF8_STRING, &[0xff]),
            one[..one.len() - 1].to_vec(),
            vec![SET, 0x84, 0xff, 0xff, 0xff, 0xff],
            vec![SET],
        ] {
            assert_eq!(common_name(&name), None, "{name:?}");
        }
    }
}
