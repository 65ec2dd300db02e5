//! Making a machine ready. What is there is left alone; what is installed is
//! told.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{output, root, run, say};

/// Trunk's version; wasm-bindgen's is that of `Cargo.lock`.
const TRUNK: &str = "0.21.14";
/// binaryen's version.
const BINARYEN: u32 = 123;

/// Where the tools are kept, shared by all checkouts.
pub fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home);
    cache
        .unwrap_or_else(|| root().join("target"))
        .join("plume/tools")
}

/// `PATH` with the tools first.
///
/// # Errors
/// Where a path cannot be written in `PATH`.
pub fn path() -> Result<std::ffi::OsString> {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(tools().join("bin")).chain(std::env::split_paths(&old));
    Ok(std::env::join_paths(all)?)
}

/// The version of a package in `Cargo.lock`.
fn locked(package: &str) -> Result<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).context("no Cargo.lock")?;
    let head = format!("name = \"{package}\"\nversion = \"");
    let rest = lock.split_once(&head).map(|(_, rest)| rest);
    let version = rest
        .and_then(|rest| rest.split_once('"'))
        .map(|(version, _)| version);
    Ok(version
        .with_context(|| format!("Cargo.lock has no {package}"))?
        .to_owned())
}

/// Installs a cargo tool at a version, unless it is there.
fn cargo_tool(package: &str, program: &str, version: &str, locked: bool) -> Result<()> {
    let installed = tools().join("bin").join(program);
    let found = output(&installed.to_string_lossy(), &["--version"]);
    if found.is_some_and(|found| found.ends_with(version)) {
        return Ok(());
    }
    say(&format!(
        "Installing {package} {version} into {} (a few minutes, once)",
        tools().display()
    ));
    let mut command = Command::new("cargo");
    // Without optimisation it builds in a quarter of the time, and runs as well.
    command.args([
        "install",
        package,
        "--version",
        version,
        "--debug",
        "--force",
        "--root",
    ]);
    command.arg(tools());
    command.arg("--target-dir").arg(tools().join("build"));
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    if locked {
        command.arg("--locked");
    }
    run(&mut command)?;
    // Not needed again.
    let _ = std::fs::remove_dir_all(tools().join("build"));
    Ok(())
}

/// Whether a program can be found.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Installs Debian packages.
fn debian(packages: &[&str]) -> Result<()> {
    if !has("apt-get") {
        bail!(
            "this machine has no apt-get; install {} by hand",
            packages.join(", ")
        );
    }
    say(&format!(
        "Installing from the Debian archive: {}",
        packages.join(", ")
    ));
    let root_user = output("id", &["-u"]).as_deref() == Some("0");
    if !root_user && !has("sudo") {
        bail!(
            "{} must be installed and there is neither root nor sudo: ask your administrator",
            packages.join(", ")
        );
    }
    let apt = |arguments: &[&str]| {
        let mut command = if root_user {
            Command::new("env")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.arg("env");
            sudo
        };
        command
            .arg("DEBIAN_FRONTEND=noninteractive")
            .arg("apt-get")
            .args(arguments);
        run(&mut command)
    };
    let install = [&["install", "-y", "--no-install-recommends"], packages].concat();
    // Lists may be old or absent: try with those there are, then fetch them.
    if apt(&install).is_err() {
        apt(&["update"])?;
        apt(&install)?;
    }
    Ok(())
}

/// binaryen's wasm-opt, from npm: Debian's (108) breaks the table that
/// wasm-bindgen keeps JavaScript's values in.
pub fn wasm_opt() -> PathBuf {
    tools().join("node_modules/.bin/wasm-opt")
}

fn binaryen() -> Result<()> {
    let found = output(&wasm_opt().to_string_lossy(), &["--version"]);
    if found.is_some_and(|found| found.contains(&format!("version {BINARYEN}"))) {
        return Ok(());
    }
    if !has("npm") {
        debian(&["nodejs", "npm"])?;
    }
    say(&format!(
        "Installing binaryen {BINARYEN} into {}",
        tools().display()
    ));
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-fund", "--no-audit", "--prefix"])
        .arg(tools());
    run(npm.arg(format!("binaryen@{BINARYEN}.0.0")))
}

/// What building the page needs.
///
/// # Errors
/// Where something can be neither found nor installed.
pub fn for_building() -> Result<()> {
    if !has("cc") {
        debian(&["build-essential"])?;
    }
    if has("rustup") {
        // rust-toolchain.toml names toolchain, target and components.
        run(Command::new("rustup").args(["toolchain", "install", "--no-self-update"]))?;
        // Where the toolchain was there before, that has added nothing to it.
        run(Command::new("rustup").args(["target", "add", "wasm32-unknown-unknown"]))?;
    }
    cargo_tool("trunk", "trunk", TRUNK, true)?;
    // Its own lock file lacks an entry at this version.
    cargo_tool(
        "wasm-bindgen-cli",
        "wasm-bindgen",
        &locked("wasm-bindgen")?,
        false,
    )?;
    if let Err(error) = binaryen() {
        say(&format!(
            "Going on without wasm-opt, the page will be a tenth larger: {error:#}"
        ));
    }
    Ok(())
}

/// What the tests need besides.
///
/// # Errors
/// Where something can be neither found nor installed.
pub fn for_testing() -> Result<()> {
    let mut missing = Vec::new();
    if !has("chromium") {
        missing.push("chromium");
    }
    if !has("chromedriver") {
        missing.push("chromium-driver");
    }
    if !has("node") {
        missing.push("nodejs");
    }
    let drivers = std::path::Path::new("/usr/share/vulkan/icd.d");
    if !std::fs::read_dir(drivers).is_ok_and(|mut files| files.next().is_some()) {
        missing.push("mesa-vulkan-drivers");
    }
    if missing.is_empty() {
        return Ok(());
    }
    debian(&missing)
}
