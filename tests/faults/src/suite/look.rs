//! What the suite's processes tell and use.

use std::{fs, path::Path, time::Duration};

use tandem_client::token;
use tandem_engines::Process;

use super::{CASSANDRA, KAFKA, OPS, REDIS, Role, Suite};

impl Suite {
    /// The sum of a metric's series over the processes of a service: of those that have this label.
    pub async fn metric(&self, role: Role, name: &str, label: &str) -> f64 {
        let mut sum = 0.0;
        for replica in self.of(role) {
            let ops = format!("{}:{OPS}", replica.address);
            let answer =
                token::http(&self.doors, &ops, http::Method::GET, "/metrics", Vec::new()).await;
            let text = answer
                .map(|a| String::from_utf8_lossy(a.body()).into_owned())
                .unwrap_or_default();
            let series = text.lines().filter(|l| {
                l.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
            });
            sum += series
                .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
                .sum::<f64>();
        }
        sum
    }

    /// Processor time and memory of each process, engines last.
    pub fn usage(&self) -> Vec<(String, Duration, u64)> {
        let own = self.replicas.iter().map(|r| {
            let pid = r.process.pid().and_then(|pid| i32::try_from(pid).ok());
            (r.process.name.clone(), pid.and_then(Process::of))
        });
        let mut all: Vec<_> = own.collect();
        all.extend((0..KAFKA).map(|n| (format!("kafka{}", n + 1), self.kafka.process(n))));
        all.extend((0..REDIS).map(|n| (format!("redis{}", n + 1), self.redis.process(n))));
        let cassandra = |n| (format!("cassandra{}", n + 1), self.cassandra.process(n));
        all.extend((0..CASSANDRA).map(cassandra));
        let used = |(name, process): (String, Option<Process>)| {
            let (bytes, cpu) = process?.usage()?;
            Some((name, cpu, bytes))
        };
        all.into_iter().filter_map(used).collect()
    }

    /// Copies what the engines wrote to where everything is kept.
    pub fn keep_logs(&self) {
        let to = self.dir.join("log");
        let copy = |from: &Path, name: String| {
            let _ = fs::copy(from.join("log"), to.join(name));
        };
        (0..KAFKA).for_each(|n| copy(self.kafka.dir(n), format!("kafka{}.log", n + 1)));
        (0..REDIS).for_each(|n| copy(self.redis.dir(n), format!("redis{}.log", n + 1)));
        (0..CASSANDRA).for_each(|n| copy(self.cassandra.dir(n), format!("cassandra{}.log", n + 1)));
    }
}
