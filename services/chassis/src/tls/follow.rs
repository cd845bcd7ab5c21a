//! Follows the files: what is good in them rules from then on.

use std::time::Duration;

use super::{
    Tls,
    source::{Files, Source},
};
use crate::{
    Doors,
    metrics::{Counter, Gauge},
};

/// Looks at the files again and again.
pub(super) struct Follower {
    tls: Tls,
    source: Source,
    seen: Result<Files, String>,
    expiry: i64,
    reloads: Counter,
    failures: Counter,
    expires_in: Gauge,
}

impl Follower {
    pub fn new(tls: Tls, source: Source, seen: Files, expiry: i64) -> Self {
        let pairs = [("section", source.section)];
        let this = Self {
            tls,
            seen: Ok(seen),
            expiry,
            reloads: Counter::new(
                "tandem.tls.reloads",
                "{reload}",
                "certificates that were taken from changed files",
                &pairs,
            ),
            failures: Counter::new(
                "tandem.tls.reload_failures",
                "{reload}",
                "changed files that were refused; the last good ones rule",
                &pairs,
            ),
            expires_in: Gauge::new(
                "tandem.tls.expires_in",
                "s",
                "time until the certificate in use expires",
                &pairs,
            ),
            source,
        };
        this.tell_expiry();
        this
    }

    pub async fn run(mut self, doors: Doors) {
        let every = Duration::from_millis(self.source.config.reload_ms);
        loop {
            tokio::time::sleep(every).await;
            let source = self.source.clone();
            if let Ok(found) = doors.threads.run(move || source.read()).await {
                self.take(found);
            }
            self.tell_expiry();
        }
    }

    fn take(&mut self, found: Result<Files, String>) {
        if found == self.seen {
            return;
        }
        let built = found.clone().and_then(|files| self.source.build(&files));
        self.seen = found;
        match built {
            Ok((pair, expiry)) => {
                *self.tls.0.pair.write() = pair;
                self.expiry = expiry;
                self.reloads.add(1);
                tracing::info!(section = self.source.section, "certificates were rotated");
            }
            Err(reason) => {
                self.failures.add(1);
                tracing::error!(
                    reason,
                    "rotated certificates are refused; the last good ones rule"
                );
            }
        }
    }

    fn tell_expiry(&self) {
        let now = self.source.clock.unix().0 / 1000;
        self.expires_in.set(self.expiry.saturating_sub(now));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]

    use std::{path::Path, sync::Arc};

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
    };
    use tandem_kernel::{Clock, UnixMillis};

    use super::*;
    use crate::{
        clock::RuntimeClock,
        tls::{Config, Kind},
    };

    /// 2026-01-01.
    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
    const DAY: i64 = 86_400;

    type Ca = CertifiedIssuer<'static, KeyPair>;

    fn ca() -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate of the authority, and its key; it ends so many days from now.
    fn issue(ca: &Ca, days: i64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["routing".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2025, 1, 1);
        let far = Duration::from_hours(24 * days.unsigned_abs());
        let now = date_time_ymd(2026, 1, 1);
        params.not_after = if days < 0 { now - far } else { now + far };
        let cert = params.signed_by(&key, ca).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn write(&self, cert: &str, key: &str, ca: &str) {
            for (file, text) in [("cert", cert), ("key", key), ("ca", ca)] {
                std::fs::write(self.0.path().join(file), text).unwrap();
            }
        }

        fn follower(&self, kind: Kind) -> Result<Follower, String> {
            let file = |name: &str| Path::join(self.0.path(), name);
            let config = Config {
                cert_file: file("cert"),
                key_file: file("key"),
                ca_file: file("ca"),
                ..Config::default()
            };
            let clock: Arc<dyn Clock> = Arc::new(RuntimeClock::starting_at(NOW));
            let source = Source::new("tls", kind, config, clock);
            let files = source.read()?;
            let (pair, expiry) = source.build(&files)?;
            let tls = Tls::new("tls", pair);
            Ok(Follower::new(tls, source, files, expiry))
        }
    }

    fn dir() -> Dir {
        Dir(tempfile::tempdir().unwrap())
    }

    impl Follower {
        /// Whether what rules changes when the files are looked at now.
        fn changes(&mut self) -> bool {
            let before = Arc::clone(&self.tls.0.pair.read().server);
            let found = self.source.read();
            self.take(found);
            self.tell_expiry();
            !Arc::ptr_eq(&before, &self.tls.0.pair.read().server)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn good_files_are_taken_and_bad_ones_refused_once() {
        let (dir, ca, other) = (dir(), ca(), ca());
        let (cert, key) = issue(&ca, 10);
        dir.write(&cert, &key, &ca.pem());
        let mut follower = dir.follower(Kind::Mutual).unwrap();
        assert_eq!(follower.expires_in.get(), 10 * DAY);
        assert!(!follower.changes());

        let (newer, newer_key) = issue(&ca, 20);
        let (foreign, foreign_key) = issue(&other, 20);
        let (late, late_key) = issue(&ca, -1);
        let bad = [
            (newer.as_str(), key.as_str(), ca.pem()),
            ("nothing", &newer_key, ca.pem()),
            (&newer, "nothing", ca.pem()),
            (&newer, &newer_key, "nothing".to_owned()),
            (&foreign, &foreign_key, ca.pem()),
            (&late, &late_key, ca.pem()),
        ];
        for (n, (cert, key, ca)) in bad.iter().enumerate() {
            dir.write(cert, key, ca);
            assert!(!follower.changes(), "{n}");
            assert!(!follower.changes(), "{n}");
            assert_eq!(follower.failures.get(), n as u64 + 1);
        }
        std::fs::remove_file(dir.0.path().join("cert")).unwrap();
        assert!(!follower.changes());
        assert_eq!(follower.failures.get(), bad.len() as u64 + 1);

        dir.write(&newer, &newer_key, &ca.pem());
        assert!(follower.changes());
        assert_eq!(
            (follower.reloads.get(), follower.expires_in.get()),
            (1, 20 * DAY)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn towards_clients_only_the_time_is_judged() {
        let (dir, ca) = (dir(), ca());
        let (cert, key) = issue(&ca, 10);
        dir.write(&cert, &key, "");
        let mut follower = dir.follower(Kind::Server).unwrap();
        assert_eq!(follower.expires_in.get(), 10 * DAY);
        let (late, late_key) = issue(&ca, -1);
        dir.write(&late, &late_key, "");
        assert!(!follower.changes());
        assert_eq!(follower.failures.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn bad_files_at_the_start_are_an_error_that_names_the_key() {
        let (dir, ca) = (dir(), ca());
        let (cert, key) = issue(&ca, 10);
        let refused = |cert: &str, key: &str, ca: &str| {
            dir.write(cert, key, ca);
            dir.follower(Kind::Mutual).err().unwrap()
        };
        assert!(refused("", &key, &ca.pem()).starts_with("tls.cert_file: "));
        assert!(refused(&cert, "", &ca.pem()).starts_with("tls.key_file: "));
        assert!(refused(&cert, &key, "").starts_with("tls.ca_file: "));
        let (_, foreign) = issue(&ca, 10);
        assert!(refused(&cert, &foreign, &ca.pem()).starts_with("tls.key_file: "));
    }
}
