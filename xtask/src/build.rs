//! The page as files for any static host.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{root, run, say};
use crate::setup;

/// Where the page is built.
pub fn dist() -> PathBuf {
    root().join("dist")
}

/// Builds the page into `dist/`.
///
/// # Errors
/// Where a step fails.
pub fn page() -> Result<()> {
    let mut trunk = Command::new("trunk");
    trunk
        .args(["build", "--release"])
        .env("PATH", setup::path()?);
    // Trunk takes NO_COLOR for a boolean and stops at any other value.
    run(trunk.env_remove("NO_COLOR"))?;
    optimize()?;
    precache()
}

/// Runs the page's own tests as WebAssembly, in Node: with what the page was
/// built of, so that nothing but the page itself is compiled again.
///
/// # Errors
/// Where one fails.
pub fn tests() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--release", "--package", "plume-app", "--lib"])
        .args(["--target", "wasm32-unknown-unknown"])
        .env("PATH", setup::path()?)
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
            "wasm-bindgen-test-runner",
        );
    run(&mut cargo)
}

/// Every file below a folder, by its path from there.
fn files(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files(folder, &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn dist_files() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    files(&dist(), Path::new(""), &mut found).context("dist/ cannot be read")?;
    found.retain(|path| !path.starts_with(".stage"));
    found.sort();
    Ok(found)
}

/// Makes the wasm smaller and faster with binaryen, where it is there.
fn optimize() -> Result<()> {
    if !setup::wasm_opt().is_file() {
        say("wasm-opt is not there: the wasm stays as the compiler left it");
        return Ok(());
    }
    for path in dist_files()?
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "wasm"))
    {
        let path = dist().join(path);
        let small = path.with_extension("small");
        let before = fs::metadata(&path)?.len();
        let features = [
            "simd",
            "bulk-memory",
            "reference-types",
            "sign-ext",
            "mutable-globals",
            "multivalue",
        ]
        .map(|feature| format!("--enable-{feature}"));
        let mut command = Command::new(setup::wasm_opt());
        command
            .args(["-O2", "--enable-nontrapping-float-to-int"])
            .args(features);
        run(command.arg(&path).arg("-o").arg(&small))?;
        fs::rename(&small, &path)?;
        let after = fs::metadata(&path)?.len();
        say(&format!("{}: {before} → {after} bytes", path.display()));
    }
    Ok(())
}

/// Lists every file with its hash, for the service worker.
fn precache() -> Result<()> {
    let mut whole = DefaultHasher::new();
    let mut list = Vec::new();
    for path in dist_files()? {
        let name = path.to_string_lossy().replace('\\', "/");
        if matches!(name.as_str(), "precache.json" | "sw.js") {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&fs::read(dist().join(&path))?);
        let hash = format!("{:016x}", hasher.finish());
        whole.write(name.as_bytes());
        whole.write(hash.as_bytes());
        list.push(serde_json::json!({"path": format!("./{name}"), "hash": hash}));
    }
    let version = format!("{:016x}", whole.finish());
    let json = serde_json::json!({"version": version, "files": list});
    fs::write(
        dist().join("precache.json"),
        serde_json::to_string_pretty(&json)?,
    )?;
    say(&format!(
        "dist/ is ready: {} files, version {version}",
        list.len()
    ));
    Ok(())
}
