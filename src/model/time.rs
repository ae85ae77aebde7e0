//! Points in time as images and logs carry them (RFC 3339), and as people read them. UTC only; the calendar
//! is the proleptic Gregorian one.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch of an RFC 3339 time, `None` for anything else. Fractions are cut off.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        if !part.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(i, c)| bytes.get(i) != Some(&c))
        || !matches!(bytes.get(10)?, b'T' | b't' | b' ')
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut at = 19;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        at += bytes[at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
    }
    let zone = match bytes.get(at)? {
        b'Z' | b'z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 && bytes[at + 3] == b':' => {
            let offset = number(at + 1, at + 3)? * 3600 + number(at + 4, at + 6)? * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone)
}

/// Seconds since the epoch of a date with as much of a time of day and of a zone as it has, and the fraction (`.5`) as it is
/// written: `2026-01-31`, `2026-01-31T10:00`, `2026-01-31T10:00:00.5+01:00`. Where there is no zone `east` is asked, with
/// what the time would be in UTC, for the seconds by which the local clock is ahead.
pub fn parse_date(text: &str, east: impl Fn(i64) -> i64) -> Option<(i64, &str)> {
    let zone = match text.as_bytes() {
        [.., b'Z' | b'z'] => text.len() - 1,
        [.., b'+' | b'-', _, _, b':', _, _] => text.len() - 6,
        _ => text.len(),
    };
    let (body, zone) = text.split_at_checked(zone)?;
    let (body, fraction) = body.split_at(body.find('.').unwrap_or(body.len()));
    if !fraction.is_empty() && (body.len() != 19 || fraction.len() == 1) {
        return None;
    }
    let rest = match body.len() {
        10 => "T00:00:00",
        16 => ":00",
        _ => "",
    };
    let named = if zone.is_empty() { "Z" } else { zone };
    let seconds = parse_rfc3339(&format!("{body}{rest}{fraction}{named}"))?;
    let ahead = if zone.is_empty() { east(seconds) } else { 0 };
    Some((seconds - ahead, fraction))
}

/// Days from 1970-01-01 to a date, by counting years from March so that the leap day is last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// `2024-05-20T10:00:00Z` for seconds since the epoch.
pub fn to_rfc3339(seconds: i64) -> String {
    let (day, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

/// The time now, to the nanosecond: `2024-05-20T10:00:00.123456789Z`.
pub fn now_rfc3339_nanos() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut text = to_rfc3339(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    text.pop();
    format!("{text}.{:09}Z", since.subsec_nanos())
}

/// `2024-05-20 10:00:00 +0000 UTC`, as docker's lists have it.
pub fn in_lists(seconds: i64) -> String {
    to_rfc3339(seconds)
        .replace('T', " ")
        .replace('Z', " +0000 UTC")
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// How long ago, in the words Docker uses: `2 weeks ago`.
pub fn ago(then: i64, now: i64) -> String {
    let seconds = (now - then).max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let span = match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    };
    format!("{span} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("1969-12-31T23:59:59Z", -1),
            ("2026-11-22T01:02:03Z", 1_795_309_323),
        ] {
            assert_eq!(parse_rfc3339(text), Some(seconds));
            assert_eq!(to_rfc3339(seconds), text);
        }
        assert_eq!(in_lists(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(
            parse_rfc3339("2000-01-01T01:00:00.123456789+01:00"),
            Some(946_684_800)
        );
        for bad in [
            "",
            "2000-01-01",
            "2000-13-01T00:00:00Z",
            "2000-01-01T00:00:00",
            "x",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates() {
        let east = |_: i64| 3600;
        for (text, seconds, fraction) in [
            ("2000-01-01", 946_684_800 - 3600, ""),
            ("2000-01-01Z", 946_684_800, ""),
            ("2000-01-01T01:00", 946_684_800, ""),
            ("2000-01-01T01:00:00", 946_684_800, ""),
            ("2000-01-01T01:00:00.25", 946_684_800, ".25"),
            ("2000-01-01T00:00:00.25Z", 946_684_800, ".25"),
            ("2000-01-01T00:00-01:00", 946_688_400, ""),
        ] {
            assert_eq!(parse_date(text, east), Some((seconds, fraction)), "{text}");
        }
        for bad in [
            "",
            "2000",
            "10m",
            "2000-01-01.5",
            "2000-01-01T00:00:00.",
            "2000-01-01T1é:00",
        ] {
            assert_eq!(parse_date(bad, east), None, "{bad}");
        }
    }

    #[test]
    fn spans() {
        for (seconds, words) in [
            (0, "Less than a second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (3600, "About an hour ago"),
            (86_400, "24 hours ago"),
            (5 * 86_400, "5 days ago"),
            (21 * 86_400, "3 weeks ago"),
            (90 * 86_400, "3 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(0, seconds), words);
        }
    }
}
