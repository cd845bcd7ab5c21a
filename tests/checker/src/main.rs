//! `tandem-checker FILE.jsonl [--json]`: the verdict on a recorded run. Exit code 0: no violation, 1: some, or
//! the record is not sound, 2: it cannot be read.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Write},
    process::ExitCode,
};

use tandem_checker::{Checker, Verdict};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let mut file = None;
    let mut json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            _ => file = Some(argument),
        }
    }
    let outcome = file
        .ok_or_else(|| Failure::from("usage: tandem-checker FILE.jsonl [--json]"))
        .and_then(|file| run(&file, json));
    match outcome {
        Ok(verdict) if verdict.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "{e}");
            ExitCode::from(2)
        }
    }
}

fn run(file: &str, json: bool) -> Result<Verdict, Failure> {
    let mut checker = Checker::default();
    for_each_line(file, |number, line| {
        let taken = checker.take_line(line);
        taken.map_err(|e| format!("{file}: line {number} is no record: {e}").into())
    })?;
    let verdict = checker.verdict();
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &verdict)?;
        writeln!(out)?;
        return Ok(verdict);
    }
    write!(out, "{verdict}")?;
    let evidence: BTreeSet<u32> = verdict
        .guarantees
        .values()
        .flat_map(|finding| finding.rules.values())
        .flat_map(|broken| &broken.examples)
        .flat_map(|example| example.records.iter().copied())
        .collect();
    if !evidence.is_empty() {
        writeln!(out, "\nevidence:")?;
        for_each_line(file, |number, line| {
            if evidence.contains(&number) {
                writeln!(out, "{number}: {line}")?;
            }
            Ok(())
        })?;
    }
    Ok(verdict)
}

/// Calls `f` with each line that is not empty, and the number of the record that it is.
fn for_each_line(
    file: &str,
    mut f: impl FnMut(u32, &str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut reader = BufReader::with_capacity(
        1 << 20,
        File::open(file).map_err(|e| format!("{file}: {e}"))?,
    );
    let (mut line, mut number) = (String::new(), 0);
    while reader.read_line(&mut line)? > 0 {
        if !line.trim().is_empty() {
            number += 1;
            f(number, line.trim_end())?;
        }
        line.clear();
    }
    Ok(())
}
