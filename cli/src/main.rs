//! `plume`: Plume's models from the command line.

use std::process::ExitCode;

use clap::Parser;
use plume_cli::commands::Command;

/// See and tell, from the command line: CLIP on your own machine.
#[derive(Parser)]
#[command(name = "plume", version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    tell_processors();
    match Arguments::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // The causes follow one another on one line, as Unix tools write.
            report(&format!("plume: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Candle asks the system how many processors there are before each product,
/// unless this variable tells it.
#[expect(unsafe_code, reason = "no other thread runs yet")]
fn tell_processors() {
    let processors = candle_core::utils::get_num_threads().to_string();
    // SAFETY: nothing else reads or writes the environment meanwhile.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", processors) }
}

/// Whoever reads our output (`head`, say) has read enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[expect(clippy::print_stderr, reason = "this is where a command reports")]
fn report(message: &str) {
    eprintln!("{message}");
}
