//! `cargo xtask`: everything that is done with the repository.

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::{build, check, run, serve, setup};

const HELP: &str = "\
cargo xtask COMMAND

  open    set up, build and serve the page on this machine
  build   set up and build the page into dist/, for any static host
  test    set up and run every check and every test
  nightly [MODEL,…]  every published size (or these) at full size with random
          weights, against open_clip and transformers; PLUME_PYTHON has them
  check   formatting, lints (native and wasm32) and licences
  bench   set up, build and measure: both devices, natively and in Chromium
  bench chat  the same of the model that writes alone
  bench packed [MODEL,…]  models in every type that they are packed in, on the
          CPU, beside open_clip: size, cosine to f32, time; PLUME_PYTHON has it
  world   draw the page's sample pictures anew

Set-up installs what is missing and says so: Trunk and wasm-bindgen into the
cache folder of Plume's tools, binaryen (through npm) as well, and for the tests
Chromium and a software Vulkan from the Debian archive.";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    match command_named(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn command_named(command: &str) -> Result<()> {
    match command {
        "open" => {
            setup::for_building()?;
            build::page()?;
            let server = serve::Server::start(&build::dist(), 8080, "/")?;
            let address = server.address();
            run::say(&format!("\nPlume is at {address}  (stop with Ctrl-C)"));
            // A machine without a desktop has no opener; the address is enough.
            let _ = std::process::Command::new("xdg-open")
                .arg(&address)
                .output();
            server.wait();
            Ok(())
        }
        "build" => {
            setup::for_building()?;
            build::page()
        }
        "check" => {
            setup::for_building()?;
            check::all()
        }
        "test" => {
            setup::for_building()?;
            setup::for_testing()?;
            check::all()?;
            build::page()?;
            build::tests()?;
            // The browser tests compare the page with the command.
            run::cargo(&["build"])?;
            run::cargo(&["test", "--no-fail-fast"])?;
            run::say("\nxtask test: everything passed");
            Ok(())
        }
        "bench" if std::env::args().nth(2).as_deref() == Some("packed") => {
            let models = std::env::args().nth(3);
            let mut arguments = vec!["run", "--bin", "packed", "--"];
            arguments.extend(models.as_deref());
            run::cargo(&arguments)
        }
        "bench" => {
            setup::for_building()?;
            setup::for_testing()?;
            build::page()?;
            // The measurement runs the command.
            run::cargo(&["build", "--bins"])?;
            let part = std::env::args().nth(2);
            let mut arguments = vec!["run", "--bin", "bench", "--"];
            arguments.extend(part.as_deref());
            run::cargo(&arguments)
        }
        "nightly" => nightly(),
        "world" => run::cargo(&[
            "run",
            "--bin",
            "plume",
            "--",
            "world",
            "--samples",
            "www/demo/samples",
            "--shots",
            "www/demo/shots",
        ]),
        "" | "help" | "--help" | "-h" => {
            run::say(HELP);
            Ok(())
        }
        other => bail!("there is no command `{other}`\n\n{HELP}"),
    }
}

/// The models are named by the second argument, if there is one.
fn nightly() -> Result<()> {
    setup::for_testing()?;
    let models = std::env::args().nth(2).unwrap_or_else(|| "all".to_owned());
    run::run(
        std::process::Command::new("cargo")
            .args(["test", "--test", "nightly", "--test", "packed"])
            .args(["--", "--nocapture"])
            .env("PLUME_NIGHTLY", models),
    )
}
