//! The engines that the tests run on, and those that a person may try the production shape on.

use tandem_engines::{shared, up};

use crate::check::Result;

/// Starts what does not run, and says where all of it is.
pub fn start() -> Result<()> {
    for engine in up::up()? {
        let what = match engine.nodes {
            0 => "ran already".to_owned(),
            nodes => format!(
                "started {nodes}, ready after {:.1} s",
                engine.took.as_secs_f64()
            ),
        };
        println!("{:<17}{what}", engine.name);
    }
    println!("\nKafka             {}", shared::KAFKA);
    println!("  SASL_SSL        {}", shared::KAFKA_SECURE);
    println!("Redis             {}", shared::REDIS);
    println!("  TLS             {}", shared::REDIS_SECURE);
    println!("Redis Cluster     {}", shared::REDIS_CLUSTER.join(","));
    println!("Cassandra         {}", shared::CASSANDRA_RING.join(","));
    println!("  TLS, password   {}", shared::CASSANDRA);
    println!("user, password    {} {}", shared::USER, shared::PASSWORD);
    println!("authority         {}", shared::ca_file()?.display());
    let tandem = "cargo run --release --features engines --";
    let config = shared::config_file()?;
    println!("\nTo try the services on them, make their topics and tables:");
    println!("  {tandem} migrate --config {}", config.display());
    println!("then start `{tandem} accounts`, `… edge` and so on with the same file.");
    Ok(())
}

/// Stops what runs.
pub fn stop(wipe: bool) -> Result<()> {
    let stopped = up::down(wipe)?;
    println!("stopped {stopped} processes");
    Ok(())
}

/// A line for each node.
pub fn status() -> Result<()> {
    println!("engine              address           pid      MB  CPU s  CPU %  answers");
    let (mut memory, mut busy) = (0, 0.0);
    for node in up::status()? {
        let pid = node.pid.map_or("-".to_owned(), |pid| pid.to_string());
        let answers = node.answers.err().unwrap_or_else(|| "yes".to_owned());
        println!(
            "{:<20}{:<16}{pid:>7}{:>7}{:>7.1}{:>7.1}  {answers}",
            node.name,
            node.address,
            node.memory / 1_000_000,
            node.cpu.as_secs_f64(),
            node.busy * 100.0,
        );
        memory += node.memory / 1_000_000;
        busy += node.busy * 100.0;
    }
    println!("{:<43}{memory:>7}{busy:>14.1}", "all");
    Ok(())
}
