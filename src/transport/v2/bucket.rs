//! Token buckets. Pure: the time that has passed is told, never read.

use std::time::Duration;

/// So many tokens a second, so many at once.
#[derive(Debug, Clone)]
pub(in crate::transport) struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
}

impl Bucket {
    /// A full one.
    pub(in crate::transport) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, tokens: burst }
    }

    /// So much time has passed.
    pub(in crate::transport) fn elapsed(&mut self, time: Duration) {
        self.tokens = (self.tokens + self.rate * time.as_secs_f64()).min(self.burst);
    }

    /// Takes one token, if there is one.
    pub(in crate::transport) fn take(&mut self) -> bool {
        let full = self.tokens >= 1.0;
        if full {
            self.tokens -= 1.0;
        }
        full
    }

    /// Puts one back.
    pub(in crate::transport) fn give_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }

    /// How long until there is a token.
    pub(in crate::transport) fn wait(&self) -> Duration {
        Duration::from_secs_f64(((1.0 - self.tokens) / self.rate).max(0.0))
    }

    /// Whether less than a quarter is left.
    pub(in crate::transport) fn is_low(&self) -> bool {
        self.tokens * 4.0 < self.burst
    }
}

/// What one relay lets us send, as far as it has told us. Unlimited for all practical purposes at first; a
/// `rate-limited:` halves what was sent lately, and time without one gives it back.
#[derive(Debug, Clone)]
pub(in crate::transport) struct Allowance {
    bucket: Bucket,
    /// Sent in the current window, and how long that has lasted.
    sent: f64,
    window: Duration,
    /// Since the last refusal or the last raise.
    quiet: Duration,
}

/// More than a call needs: window of 256 frames over a round trip on loopback.
const MOST_RATE: f64 = 4_000.0;
/// khatru's default for one address: 2 events in 3 minutes.
const LEAST_RATE: f64 = 2.0 / 180.0;
/// What was sent lately is counted over a minute: the window of the usual limits.
const WINDOW: Duration = Duration::from_secs(60);
/// After so long without a refusal the relay is asked for more.
const RAISE_AFTER: Duration = Duration::from_secs(60);
/// By so much.
const RAISE: f64 = 1.5;

impl Allowance {
    pub(in crate::transport) fn new() -> Self {
        let bucket = Bucket::new(MOST_RATE, MOST_RATE);
        Self { bucket, sent: 0.0, window: Duration::ZERO, quiet: Duration::ZERO }
    }

    pub(in crate::transport) fn elapsed(&mut self, time: Duration) {
        self.window += time;
        if self.window > WINDOW {
            // Half of what was is kept, so that the measure never rests on a moment.
            self.sent /= 2.0;
            self.window /= 2;
        }
        self.quiet += time;
        while self.quiet >= RAISE_AFTER && self.bucket.rate < MOST_RATE {
            self.quiet -= RAISE_AFTER;
            self.limit(self.bucket.rate * RAISE);
        }
        self.bucket.elapsed(time);
    }

    pub(in crate::transport) fn take(&mut self) -> bool {
        let taken = self.bucket.take();
        self.sent += f64::from(u8::from(taken));
        taken
    }

    pub(in crate::transport) fn is_low(&self) -> bool {
        self.bucket.is_low()
    }

    pub(in crate::transport) fn wait(&self) -> Duration {
        self.bucket.wait()
    }

    /// The relay said `rate-limited:`.
    pub(in crate::transport) fn refused(&mut self) {
        let lately = self.sent / self.window.max(Duration::from_secs(1)).as_secs_f64();
        self.limit(self.bucket.rate.min(lately) / 2.0);
        self.bucket.tokens = 0.0;
        self.quiet = Duration::ZERO;
    }

    /// A burst is ten seconds' worth, and one event at least.
    fn limit(&mut self, rate: f64) {
        self.bucket.rate = rate.clamp(LEAST_RATE, MOST_RATE);
        self.bucket.burst = (self.bucket.rate * 10.0).clamp(1.0, MOST_RATE);
        self.bucket.tokens = self.bucket.tokens.min(self.bucket.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(allowance: &mut Allowance, tries: u32) -> u32 {
        (0..tries).filter(|_| allowance.take()).count() as u32
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(5.0, 20.0);
        assert_eq!((0..30).filter(|_| bucket.take()).count(), 20);
        assert!(bucket.is_low() && bucket.wait() <= Duration::from_millis(200));
        bucket.elapsed(SECOND);
        assert_eq!((0..30).filter(|_| bucket.take()).count(), 5);
        bucket.give_back();
        assert!(bucket.take() && !bucket.take());
        bucket.elapsed(1_000 * SECOND);
        assert_eq!((0..30).filter(|_| bucket.take()).count(), 20, "never more than its burst");
    }

    #[test]
    fn a_relay_that_refuses_gets_half_of_what_it_got_and_more_again_with_time() {
        let mut allowance = Allowance::new();
        assert_eq!(taken(&mut allowance, 600), 600);
        allowance.elapsed(60 * SECOND);
        allowance.refused();
        assert!(!allowance.take());
        // Ten a second were sent; five are let through from now on.
        allowance.elapsed(2 * SECOND);
        assert_eq!(taken(&mut allowance, 100), 10);
        assert!(allowance.wait() <= SECOND / 5);
        for _ in 0..60 * 60 {
            allowance.elapsed(SECOND);
        }
        assert!(taken(&mut allowance, 2_000) == 2_000, "forgiven after an hour");
    }

    #[test]
    fn a_relay_that_refuses_everything_still_gets_two_in_three_minutes() {
        let mut allowance = Allowance::new();
        for _ in 0..100 {
            allowance.elapsed(SECOND / 10);
            allowance.refused();
        }
        assert!(allowance.wait() <= 90 * SECOND);
        allowance.elapsed(90 * SECOND);
        assert!(allowance.take());
    }
}
