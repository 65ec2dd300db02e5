//! Checks that run nothing of ours: formatting, lints, licences.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::run::{cargo, output, say};

/// Licences that go together with MIT and Apache-2.0.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "IJG",
    "ISC",
    // Its terms hold for its own files, which are used unchanged.
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
];

/// All of them.
///
/// # Errors
/// Where one finds something.
pub fn all() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--all-targets", "--", "-D", "warnings"])?;
    let wasm = [
        "--target",
        "wasm32-unknown-unknown",
        "--package",
        "plume-app",
        "--release",
    ];
    cargo(&[&["clippy"], wasm.as_slice(), &["--", "-D", "warnings"]].concat())?;
    licences()?;
    advisories()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Whether an SPDX expression can be met with our licences: some side of every
/// `OR`, both sides of every `AND`.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let expression = expression.trim();
    // No expression among our dependencies nests deeper than one level.
    let inner = |part: &str| {
        part.trim()
            .trim_start_matches('(')
            .trim_end_matches(')')
            .to_owned()
    };
    if let Some((left, right)) = expression.split_once(") AND ") {
        return allowed(&inner(left)) && allowed(&inner(right));
    }
    if let Some((left, right)) = expression.split_once(" AND (") {
        return allowed(&inner(left)) && allowed(&inner(right));
    }
    expression.split(" OR ").any(|choice| {
        choice
            .split(" AND ")
            .all(|licence| LICENCES.contains(&inner(licence).as_str()))
    })
}

/// Every dependency is from crates.io and may be combined with Plume.
fn licences() -> Result<()> {
    let json = output("cargo", &["metadata", "--format-version", "1", "--locked"]);
    let metadata: Metadata = serde_json::from_str(&json.context("cargo metadata failed")?)?;
    let mut refused = BTreeSet::new();
    for package in &metadata.packages {
        let Some(source) = &package.source else {
            continue;
        };
        let licence = package.license.as_deref().unwrap_or("none stated");
        if !allowed(licence) {
            refused.insert(format!("{} {}: {licence}", package.name, package.version));
        }
        if !source.starts_with("registry+") {
            refused.insert(format!("{} comes from {source}", package.name));
        }
    }
    if !refused.is_empty() {
        let list: Vec<_> = refused.into_iter().collect();
        bail!("licences that are not agreed:\n  {}", list.join("\n  "));
    }
    say(&format!(
        "licences: {} packages, all agreed",
        metadata.packages.len()
    ));
    Ok(())
}

/// Known vulnerabilities, where `cargo deny` is installed: its list must be
/// fetched, which a machine without the network cannot.
fn advisories() -> Result<()> {
    if output("cargo", &["deny", "--version"]).is_none() {
        say("advisories: not checked (cargo-deny is not installed)");
        return Ok(());
    }
    cargo(&["deny", "check", "advisories"])
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_read_as_spdx_says() {
        assert!(allowed("MIT OR Apache-2.0"));
        assert!(allowed("GPL-3.0 OR MIT"));
        assert!(allowed("MIT/Apache-2.0"));
        assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(allowed("Apache-2.0 AND ISC"));
        assert!(!allowed("GPL-3.0"));
        assert!(!allowed("MIT AND GPL-3.0"));
        assert!(!allowed("(MIT OR Apache-2.0) AND GPL-3.0"));
    }
}
