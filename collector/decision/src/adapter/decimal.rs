//! Decimal numbers as texts have them, and exactly: money and durations never
//! pass through binary fractions.

/// Digits of a number that are read: the largest price and the largest
/// duration have fewer, binary fractions that were printed in full 17.
const DIGITS_MAX: usize = 64;

/// Largest power of ten by which a number is scaled here or in its text: what
/// is larger fits no number that is wanted, what is smaller rounds to 0.
const EXPONENT_MAX: i32 = 64;

/// Reads a decimal number (JSON's grammar: `2.35`, `235e-2`), multiplies it by
/// 10^`scale` and rounds it to the nearest whole number, halves away from 0.
/// `None` when the text is no number, or beyond 64 bits.
pub(super) fn scaled(text: &str, scale: i32) -> Option<i64> {
    let (text, is_negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    if whole.len() + fraction.len() > DIGITS_MAX {
        return None;
    }
    // How many digits stand before the point once it has moved.
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let moved = exponent.checked_add(scale)?.checked_sub(fraction_digits)?;
    let mut magnitude: u128 = 0;
    let digits = whole.bytes().chain(fraction.bytes());
    let count = i32::try_from(whole.len()).ok()? + fraction_digits;
    let mut rounds_up = false;
    for (position, digit) in (1..=count).zip(digits) {
        let digit = u128::from(digit - b'0');
        if position <= count + moved {
            magnitude = magnitude.checked_mul(10)?.checked_add(digit)?;
        } else {
            // The first digit that falls away decides.
            rounds_up = position == count + moved + 1 && digit >= 5;
            break;
        }
    }
    magnitude += u128::from(rounds_up);
    if magnitude != 0 {
        for _ in 0..moved.max(0) {
            magnitude = magnitude.checked_mul(10)?;
        }
    }
    let magnitude = i64::try_from(magnitude).ok()?;
    Some(if is_negative { -magnitude } else { magnitude })
}

/// Beyond the bound only the sign matters.
fn read_exponent(text: &str) -> Option<i32> {
    let (digits, is_negative) = match text.as_bytes().first()? {
        b'-' => (text.get(1..)?, true),
        b'+' => (text.get(1..)?, false),
        _ => (text, false),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let size = match digits.len() {
        0 => 0,
        1 | 2 => digits.parse().ok()?,
        _ => i32::MAX,
    };
    // 128: beyond the digits that a mantissa may have and the scale together.
    let size = size.min(2 * EXPONENT_MAX);
    Some(if is_negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::scaled;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, scale, expected) in [
            ("2.35", 6, Some(2_350_000)),
            ("0.1", 6, Some(100_000)),
            ("0", 6, Some(0)),
            ("-0", 6, Some(0)),
            ("-2.35", 6, Some(-2_350_000)),
            ("235", 4, Some(2_350_000)),
            ("235e-2", 6, Some(2_350_000)),
            ("2.35E+1", 6, Some(23_500_000)),
            ("0.0000014", 6, Some(1)),
            ("0.0000015", 6, Some(2)),
            ("2.3499999999999996", 6, Some(2_350_000)),
            ("0.0000004", 6, Some(0)),
            ("0.00000004", 6, Some(0)),
            ("5e-8", 6, Some(0)),
            ("9223372036854775807", 0, Some(i64::MAX)),
            ("9223372036854775808", 0, None),
            ("9999999999999999999999999999999999999999", 0, None),
            ("1e400", 0, None),
            ("1e-400", 0, Some(0)),
            ("0e999999999999999999999", 6, Some(0)),
            ("1e999999999999999999999", 6, None),
            ("1e-999999999999999999999", 6, Some(0)),
            ("29.97", 3, Some(29_970)),
            ("30", 3, Some(30_000)),
            ("", 0, None),
            ("-", 0, None),
            (".5", 0, None),
            ("5.", 0, None),
            ("1,5", 0, None),
            ("+1", 0, None),
            ("1e", 0, None),
            ("1e+", 0, None),
            ("1 ", 0, None),
            ("0x10", 0, None),
            ("NaN", 0, None),
            ("٣", 0, None),
            ("1.5e1.5", 0, None),
        ] {
            assert_eq!(scaled(text, scale), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_millionths_come_back_as_they_were(micros in 0_i64..=1_000_000_000_000) {
            let text = alloc::format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(scaled(&text, 6), Some(micros));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC*", scale in 0..7) {
            let _ = scaled(&text, scale);
        }
    }
}
