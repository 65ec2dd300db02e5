//! Running other programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Tells the person at the terminal.
#[expect(clippy::print_stderr, reason = "this is how a task reports")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

/// Runs a program in the repository and waits for it.
///
/// # Errors
/// Where it is missing or fails.
pub fn run(command: &mut Command) -> Result<()> {
    say(&format!("+ {}", told(command)));
    let status = command.current_dir(root()).status();
    let status = status.with_context(|| format!("{} cannot be started", told(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", told(command));
    }
    Ok(())
}

/// Runs cargo in the repository.
///
/// # Errors
/// Where it fails.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments))
}

/// What a program prints, or nothing where it is missing or fails.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn told(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
