//! Numbers from 1 up as they are written with a unit, `64K`.

/// Bytes; K and M are 1024 and 1024².
pub fn bytes(text: &str) -> Result<u64, String> {
    let factor = |unit: &str| match unit {
        "" => Some(1),
        "K" | "k" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        _ => None,
    };
    amount(text, factor).ok_or_else(|| "expected a number of bytes from 1 up, such as 65536, 64K or 1M".into())
}

/// Parameters or multiply-adds; K and M are 1,000 and 1,000,000.
pub fn count(text: &str) -> Result<u64, String> {
    let factor = |unit: &str| match unit {
        "" => Some(1),
        "K" | "k" => Some(1_000),
        "M" => Some(1_000_000),
        _ => None,
    };
    amount(text, factor).ok_or_else(|| "expected a number from 1 up, such as 40000, 40K or 8M".into())
}

/// A number and what its unit stands for; no more than the file of a configuration holds.
fn amount(text: &str, factor: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let amount = number.parse::<u64>().ok()?.checked_mul(factor(unit)?)?;
    (amount > 0 && i64::try_from(amount).is_ok()).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units() {
        for (text, expected) in
            [("65536", 65_536), ("64K", 65_536), ("64k", 65_536), ("64KiB", 65_536), ("2M", 2 << 20)]
        {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for (text, expected) in [("40000", 40_000), ("40K", 40_000), ("40k", 40_000), ("8M", 8_000_000), ("1", 1)] {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for text in
            ["", "K", "0", "0K", "64KB", "64 K", "-1", "1.5M", "64G", "9223372036854775808", "18446744073709551615K"]
        {
            assert!(bytes(text).is_err() && count(text).is_err(), "{text}");
        }
        assert!(count("40KiB").is_err());
    }
}
