use std::path::PathBuf;

use anyhow::{Context, Result};
use tiny_skia::{Pixmap, PixmapPaint, Transform};

use super::print;
use crate::world::{Sampler, Scene, Split, Telling, caption, png, samples, shot_sets};

/// Draw the world that the embedded models are trained on.
#[derive(clap::Args)]
pub struct World {
    /// Write a sheet of random drawings to this PNG file.
    #[arg(long, value_name = "X.png")]
    sheet: Option<PathBuf>,
    /// Write the page's sample drawings, and a list of them, to this folder.
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// Write the chat's ready-made examples, and a list of them, to this folder.
    #[arg(long, value_name = "DIR")]
    shots: Option<PathBuf>,
    /// Print this many captions.
    #[arg(long, default_value_t = 0)]
    captions: usize,
    /// Side of a drawing on the sheet, in pixels.
    #[arg(long, default_value_t = 64)]
    size: u32,
    /// What decides the drawings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl World {
    pub(super) fn run(self) -> Result<()> {
        if let Some(path) = &self.sheet {
            self.write_sheet(path)?;
        }
        if let Some(folder) = &self.samples {
            write_samples(folder)?;
        }
        if let Some(folder) = &self.shots {
            write_shots(folder)?;
        }
        let mut sampler = Sampler::new(Split::Train, self.seed);
        for i in 0..self.captions {
            let scene = any(&mut sampler, i);
            print(&caption(&scene, false, Telling::Varied, sampler.rng()))?;
        }
        Ok(())
    }

    fn write_sheet(&self, path: &std::path::Path) -> Result<()> {
        const COLUMNS: u32 = 12;
        const ROWS: u32 = 8;
        let step = self.size + 4;
        let mut sampler = Sampler::new(Split::Train, self.seed);
        let mut sheet =
            Pixmap::new(COLUMNS * step, ROWS * step).context("the sheet is too large")?;
        for i in 0..COLUMNS * ROWS {
            let scene = any(&mut sampler, i as usize);
            let drawing = Pixmap::decode_png(&png(&scene, self.size)?)?;
            let (x, y) = ((i % COLUMNS) * step, (i / COLUMNS) * step);
            let (paint, transform) = (PixmapPaint::default(), Transform::identity());
            sheet.draw_pixmap(
                x as i32,
                y as i32,
                drawing.as_ref(),
                &paint,
                transform,
                None,
            );
        }
        std::fs::write(path, sheet.encode_png()?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Scenes of every kind, one thing twice as often.
fn any(sampler: &mut Sampler, i: usize) -> Scene {
    match i % 4 {
        0 | 1 => sampler.one(None),
        2 => sampler.pair(),
        _ => sampler.several(),
    }
}

fn write_samples(folder: &std::path::Path) -> Result<()> {
    let context = || format!("cannot write to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    let mut names = Vec::new();
    for (name, scene) in samples() {
        let file = format!("{name}.png");
        std::fs::write(folder.join(&file), png(&scene, 320)?).with_context(context)?;
        names.push(file);
    }
    let list = serde_json::to_string_pretty(&names)?;
    std::fs::write(folder.join("index.json"), list + "\n").with_context(context)
}

fn write_shots(folder: &std::path::Path) -> Result<()> {
    let context = || format!("cannot write to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    let sets = shot_sets();
    for set in &sets {
        for shot in set.shots.iter().chain([&set.ask]) {
            let name = shot.picture.rsplit('/').next().unwrap_or(&shot.picture);
            std::fs::write(folder.join(name), png(&shot.scene, 192)?).with_context(context)?;
        }
    }
    let list = serde_json::to_string_pretty(&sets)?;
    std::fs::write(folder.join("index.json"), list + "\n").with_context(context)
}
