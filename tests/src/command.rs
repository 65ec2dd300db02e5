//! The command `plume`, which the page is held to.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::plume;

/// What a run of the command printed.
///
/// # Errors
/// With what it said, where it failed.
pub fn printed(output: Output) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    anyhow::ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?)
}

/// Runs the command.
///
/// # Panics
/// Where it cannot be started.
pub fn run(arguments: &[&str]) -> Output {
    let output = Command::new(plume()).args(arguments).output();
    output.expect("plume is built")
}

/// Runs the command, which must do well; what it prints.
///
/// # Panics
/// Where it fails.
pub fn well(arguments: &[&str]) -> String {
    printed(run(arguments)).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// Runs the command, which must fail; what it says.
///
/// # Panics
/// Where it does well.
pub fn badly(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} did well");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `(label, cosine, probability)` by `plume classify --json`.
///
/// # Panics
/// Where the command fails.
pub fn classified(
    model: &Path,
    image: &Path,
    labels: &[&str],
    templates: &[&str],
) -> Vec<(String, f32, f32)> {
    let mut command = Command::new(plume());
    command.args(["classify", "--json", "--labels"]);
    command.arg(labels.join(",")).arg("--model").arg(model);
    for template in templates {
        command.args(["--template", template]);
    }
    let output = command.arg(image).output().expect("plume is built");
    let rows = printed(output).and_then(|json| read(&json));
    rows.unwrap_or_else(|error| panic!("{error:#}"))
}

fn read(json: &str) -> Result<Vec<(String, f32, f32)>> {
    let answers: Value = serde_json::from_str(json)?;
    let scores = answers[0]["scores"].as_array().context("no scores")?;
    let row = |score: &Value| {
        let number = |key: &str| score[key].as_f64().map(|n| n as f32);
        let label = score["label"].as_str()?.to_owned();
        Some((label, number("cosine")?, number("probability")?))
    };
    let rows: Option<Vec<_>> = scores.iter().map(row).collect();
    rows.context("a score lacks a number")
}

/// Holds what the page says to what the command says.
///
/// # Panics
/// Where they differ.
pub fn same(page: &[(String, f32, f32)], command: &[(String, f32, f32)]) {
    assert_eq!(page.len(), command.len());
    for (label, cosine, probability) in command {
        let found = page.iter().find(|row| row.0 == *label);
        let Some((_, of_page, part)) = found else {
            panic!("the page has no {label}");
        };
        assert!(
            (of_page - cosine).abs() < 1e-4,
            "{label}: {of_page} and {cosine}"
        );
        assert!(
            (part - probability).abs() < 1e-3,
            "{label}: {part} and {probability}"
        );
    }
}
