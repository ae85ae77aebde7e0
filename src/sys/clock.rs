//! The local clock.

/// By how many seconds the local clock is ahead of UTC when it shows this, which is counted as if it were UTC since the
/// epoch; 0 where the C library cannot tell.
pub fn east_of_utc(shown: i64) -> i64 {
    // The first answer is that of a moment some hours away, with another offset where summer time begins between.
    offset(shown - offset(shown))
}

fn offset(seconds: i64) -> i64 {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the types that localtime_r(3) wants, and it keeps neither. `tm` is
    // plain numbers and a pointer, for all of which zero is a value, so it may be read also where nothing was written.
    unsafe {
        libc::localtime_r(&seconds, parts.as_mut_ptr());
        parts.assume_init().tm_gmtoff
    }
}
