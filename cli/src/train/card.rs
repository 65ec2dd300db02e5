//! The model card and the curve of the loss.

use anyhow::{Result, bail};
use plume_core::config::{ClipConfig, VisionConfig, VisionPool};

use super::Recipe;
use super::batch::{Mix, Phase};
use super::eval::Figures;
use crate::world::Telling;

/// The loss against the step, as SVG: every step thin, a running mean bold.
pub fn plot(csv: &str, what: &str) -> String {
    let losses: Vec<f32> = csv
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').nth(3)?.parse().ok())
        .collect();
    let (width, height, margin) = (640.0, 320.0, 40.0);
    let most = losses.iter().copied().fold(1.0, f32::max);
    let x = |i: usize| margin + (width - 2.0 * margin) * i as f32 / losses.len().max(2) as f32;
    let y = |loss: f32| height - margin - (height - 2.0 * margin) * loss / most;
    let line = |points: &mut dyn Iterator<Item = (usize, f32)>| -> String {
        let points: Vec<String> = points
            .map(|(i, l)| format!("{:.1},{:.1}", x(i), y(l)))
            .collect();
        points.join(" ")
    };
    let every = line(
        &mut losses
            .iter()
            .copied()
            .enumerate()
            .step_by((losses.len() / 800).max(1)),
    );
    let window = (losses.len() / 40).max(1);
    let mean = |chunk: &[f32]| chunk.iter().sum::<f32>() / chunk.len() as f32;
    let smooth = line(
        &mut losses
            .chunks(window)
            .enumerate()
            .map(|(i, chunk)| (i * window + chunk.len() / 2, mean(chunk))),
    );
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<rect width="{width}" height="{height}" fill="#fff"/>
<path d="M{margin} {margin}V{bottom}H{right}" fill="none" stroke="#888"/>
<text x="{margin}" y="{label}">0</text><text x="{right}" y="{label}" text-anchor="end">step {steps}</text>
<text x="4" y="{margin}">{most:.1}</text><text x="4" y="{bottom}">0</text><text x="{margin}" y="24">{what}</text>
<polyline points="{every}" fill="none" stroke="#bcd" stroke-width="1"/>
<polyline points="{smooth}" fill="none" stroke="#247" stroke-width="2"/>
</svg>
"##,
        bottom = height - margin,
        right = width - margin,
        label = height - 20.0,
        steps = losses.len(),
    )
}

/// A part of the curriculum as a row of a table.
fn phase_row(phase: &Phase) -> String {
    let Mix {
        groups,
        one_colour,
        any_colour,
        placed,
        pairs,
        several,
    } = phase.mix;
    format!(
        "| {:.0} % | {groups} × {one_colour} | {any_colour} | {placed} | {pairs} | {several} | {} |",
        phase.until * 100.0,
        match phase.telling {
            Telling::Plain => "plainly",
            Telling::Varied => "in varied words",
        }
    )
}

/// The model card.
///
/// # Errors
/// Where the model has other towers than the demo.
pub fn card(
    recipe: &Recipe,
    config: &ClipConfig,
    seconds: f64,
    seen: &Figures,
    held_out: &Figures,
    command: &str,
) -> Result<String> {
    let (Some(VisionConfig::Vit(vision)), Some(text)) = (&config.vision, &config.text) else {
        bail!("the card is of a model with a vision transformer and a text tower");
    };
    let row = |name: &str, chance: &str, pick: &dyn Fn(&Figures) -> f32| {
        format!(
            "| {name} | {:.1} | {:.1} | {chance} |",
            pick(seen) * 100.0,
            pick(held_out) * 100.0
        )
    };
    let rows = [
        row("thing, of 40", "2.5", &|f| f.things),
        row("thing, drawn as with a mouse", "2.5", &|f| {
            f.things_by_mouse
        }),
        row("colour, of 10", "10", &|f| f.colours),
        row("count, of 1 to 4", "25", &|f| f.counts),
        row("relation, against the swapped caption", "50", &|f| {
            f.relations
        }),
        row("relation, of left, right, above, below", "25", &|f| {
            f.relation_of_four
        }),
        row("none of these, below the cosine named here", "50", &|f| {
            f.none_of_these
        }),
    ]
    .join("\n");
    let phases: Vec<String> = recipe.phases.iter().map(phase_row).collect();
    let phases = phases.join("\n");
    let card = format!(
        "# The demo CLIP

A CLIP trained from scratch by Plume on drawings that Plume makes itself. It knows forty things in
ten colours, drawn in many hands, alone, in twos and up to four of a kind. It knows nothing of
photographs: for those load a published checkpoint.

| top-1, % (1,000 drawings a row) | combinations seen | held out | chance |
|---|---|---|---|
{rows}

Held out means never trained on: for every thing one colour, and a seventh of the pairs of things,
in either order. \"None of these\" is the mean over the forty labels with the true one and the
thirty-nine without it, told apart at a cosine of {threshold:.2}.

- **Model**: {image} × {image} pixels, four convolutions to a grid of {grid} × {grid}, {vl} transformer
  layers of width {vw}, {pool}; text {tl} {causal} layers of width {tw}, {vocab} tokens, read
  at the end token; {embed} dimensions shared.
- **Training**: symmetric cross-entropy with learned temperature; {steps} steps of {batch} drawings,
  AdamW {rate:e} ({b1}, {b2}), decay {decay} on matrices, warm-up {warm}, cosine, random square crops.
  Texts are filled up to the longest of the batch with end tokens, which the text tower sees: in use
  only texts of one length go together. What has a place also chooses against its caption with the places swapped, pairs against theirs
  with the colours swapped.
- **Time**: {minutes:.0} minutes on two cores of an AMD EPYC processor.
- **Made by** `{command}`; the seed decides drawings, captions and weights.
- **Licence**: MIT or Apache-2.0, as Plume; drawings and captions are Plume's own.

## The curriculum

| until | single things of one colour | of any colour | to one side, beside the same on the other | pairs, beside the scene with the places exchanged | two to four of a kind | two things are told of |
|---|---|---|---|---|---|---|
{phases}

Plain telling always begins at the left or the top. It comes first because in varied words a noun's
side depends on its place in the sentence and on the word between the two nouns at once: trained on
these alone (with the same tower, or with a class token and causal text) relations stayed at chance.

![loss](loss.svg)
",
        image = vision.image_size,
        grid = vision.grid(),
        vl = vision.transformer.layers,
        vw = vision.transformer.width,
        tl = text.transformer.layers,
        tw = text.transformer.width,
        vocab = text.vocab_size,
        embed = config.embed_dim,
        steps = recipe.steps,
        threshold = held_out.threshold,
        batch = recipe.phases.first().map_or(0, |phase| phase.mix.total()),
        rate = recipe.optimizer.rate,
        b1 = recipe.optimizer.beta_1,
        b2 = recipe.optimizer.beta_2,
        decay = recipe.optimizer.decay,
        warm = recipe.warm_up,
        pool = match vision.pool {
            VisionPool::Class => "read at a class token".to_owned(),
            VisionPool::Cells { side } => format!(
                "averaged in {side} × {side} cells that are projected together"
            ),
            VisionPool::Map => "pooled by attention".to_owned(),
        },
        causal = if text.causal { "causal" } else { "bidirectional" },
        minutes = seconds / 60.0,
    );
    Ok(card)
}
