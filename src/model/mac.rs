//! Hardware addresses of network interfaces (IEEE 802, 48 bits).

/// Six bytes in hexadecimal digits with `:` or `-` between them, of one interface: not of a group, and not all zero.
pub fn parse(text: &str) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut out {
        let part = parts.next()?;
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| digits)?;
    }
    let single = out[0] & 1 == 0 && out != [0; 6];
    (parts.next().is_none() && single).then_some(out)
}

/// The same in small letters with `:`.
pub fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_and_what_is_not() {
        let shown = |given| parse(given).map(text);
        for given in ["02:42:AC:11:00:02", "02-42-ac-11-00-02"] {
            assert_eq!(shown(given).as_deref(), Some("02:42:ac:11:00:02"));
        }
        for bad in [
            "",
            "02",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "2:42:ac:11:0:2",
            "02:42:ac:11:00:+2",
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "02:42:ac:11:00:0g",
        ] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
