//! Models that are published in parts: what each would take of this machine,
//! and the commands for what suits it best.

use plume_core::hub::InParts;

use super::machine::Machine;
use super::need::Need;
use crate::protocol::{Fit, PackedAs, Storage, ToPack};

/// A model of the hub at `base`.
pub(super) fn to_pack(model: &InParts, base: &str, machine: &Machine, storage: Storage) -> ToPack {
    let sizes = model.packed.by_dtype().map(|(dtype, bytes)| {
        let bytes = bytes as f64;
        PackedAs {
            dtype: dtype.to_owned(),
            bytes,
            fit: machine.fit(Need::packed(model, dtype, bytes), storage),
        }
    });
    let page = model.parts.first();
    let page = page.map(|part| format!("{base}/{}", part.repository));
    ToPack {
        id: model.id.clone(),
        name: model.name.clone(),
        publisher: model.publisher.clone(),
        licence: model.licence.clone(),
        good_at: model.good_at.clone(),
        page: page.unwrap_or_default(),
        best: best(&sizes).to_owned(),
        commands: model.commands(best(&sizes)),
        sizes: sizes.into(),
    }
}

/// The most precise that fits; the smallest where none does without doubt.
fn best(sizes: &[PackedAs; 3]) -> &str {
    let fitting = sizes.iter().rfind(|size| size.fit == Fit::Yes);
    &fitting.unwrap_or(&sizes[0]).dtype
}

#[cfg(test)]
mod tests {
    use plume_core::hub::PackedBytes;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    /// OpenFlamingo-3B.
    fn model() -> InParts {
        InParts {
            id: "three".into(),
            name: "Three".into(),
            publisher: String::new(),
            licence: String::new(),
            good_at: String::new(),
            parts: Vec::new(),
            parameters: 2_558_330_928,
            packed: PackedBytes {
                q4_0: 1_495_169_856,
                q8_0: 2_722_003_776,
                f16: 5_118_849_216,
            },
            token_bytes: 393_216,
            image_bytes: 12_582_912,
            picture_bytes: 4_210_688,
        }
    }

    #[wasm_bindgen_test]
    fn the_most_precise_that_fits_is_recommended() {
        let full = Storage::default();
        let told = |gpu: bool, gigabytes| {
            let machine = Machine::of(gpu.then_some(2e9), gigabytes);
            let told = to_pack(&model(), "https://hub.example", &machine, full);
            let fits: Vec<_> = told.sizes.iter().map(|size| size.fit.clone()).collect();
            (fits, told.commands)
        };
        let (fits, commands) = told(true, 16.0);
        assert_eq!(fits, [Fit::Yes, Fit::Yes, Fit::Yes]);
        assert!(commands.contains("--dtype f16"), "{commands}");
        // The CPU widens 16 bits to 32, more than a page has.
        let (fits, commands) = told(false, 8.0);
        assert_eq!(fits[..2], [Fit::Yes, Fit::Yes]);
        assert!(matches!(&fits[2], Fit::No(why) if why.contains("needs 10.9 GB")));
        assert!(commands.contains("--dtype q8_0"), "{commands}");
        // Where none fits, the smallest comes nearest.
        let (fits, commands) = told(true, 1.0);
        assert!(fits.iter().all(|fit| matches!(fit, Fit::No(_))), "{fits:?}");
        assert!(commands.contains("--dtype q4_0"), "{commands}");
    }
}
