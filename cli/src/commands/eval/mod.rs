mod agreement;
mod data;
mod world;

use anyhow::Result;

/// Measure a model that writes.
#[derive(clap::Args)]
pub struct Eval {
    #[command(subcommand)]
    of: Of,
}

#[derive(clap::Subcommand)]
enum Of {
    /// Beside the same model in more bits.
    Agreement(agreement::Compare),
    /// On cases of your own.
    Data(data::Data),
    /// On the world of drawings.
    World(world::World),
}

impl Eval {
    pub(super) fn run(self) -> Result<()> {
        match self.of {
            Of::Agreement(command) => command.run(),
            Of::Data(command) => command.run(),
            Of::World(command) => command.run(),
        }
    }
}
