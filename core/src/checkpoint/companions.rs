//! The JSON files that are published beside weights. A folder may hold those of
//! several publishers at once (timm's repositories have their own `config.json`
//! beside open_clip's files): the layout of the weights says which one counts.

use crate::checkpoint::{Layout, clip_config};
use crate::config::ClipConfig;
use crate::image::Preprocess;
use crate::{Error, Result};

/// What was found beside the weights.
#[derive(Clone, Debug, Default)]
pub struct Companions {
    /// `config.json`: transformers', timm's or our own.
    pub config: Option<String>,
    /// `open_clip_config.json`.
    pub open_clip_config: Option<String>,
    /// `preprocessor_config.json`: transformers'.
    pub preprocessor_config: Option<String>,
}

impl Companions {
    /// The sizes of the model.
    ///
    /// # Errors
    /// Where there is no configuration, or none that is understood.
    pub fn config(&self, layout: Layout) -> Result<ClipConfig> {
        clip_config(self.config_json(layout).ok_or_else(|| {
            Error::Config(
                "neither config.json nor open_clip_config.json is there: take the one that was \
                 published beside the weights"
                    .into(),
            )
        })?)
    }

    /// The preparation of pictures for a model of these sizes.
    ///
    /// # Errors
    /// As [`Preprocess::of_model`].
    pub fn preprocess(&self, layout: Layout, config: &ClipConfig) -> Result<Preprocess> {
        Preprocess::of_model(self.preprocess_json(layout), config, layout.family())
    }

    /// The file with the sizes, if it is there.
    pub fn config_json(&self, layout: Layout) -> Option<&str> {
        first(
            [&self.config, &self.open_clip_config],
            is_open_clips(layout),
        )
    }

    /// The file with the preparation of pictures, if it is there.
    pub fn preprocess_json(&self, layout: Layout) -> Option<&str> {
        if layout == Layout::Timm {
            // timm has one file for everything.
            let timm = self.config.as_deref();
            return timm.filter(|json| json.contains("\"pretrained_cfg\""));
        }
        let files = [&self.preprocessor_config, &self.open_clip_config];
        first(files, is_open_clips(layout))
    }
}

fn is_open_clips(layout: Layout) -> bool {
    matches!(layout, Layout::OpenClip | Layout::OpenClipTimm)
}

/// The first that is there, or, `reversed`, the last.
fn first([a, b]: [&Option<String>; 2], reversed: bool) -> Option<&str> {
    let (a, b) = if reversed { (b, a) } else { (a, b) };
    a.as_deref().or(b.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VisionConfig;

    #[test]
    fn the_layout_says_whose_configuration_counts() {
        let timm = r#"{"architecture": "resnet50_clip", "num_classes": 1024,
            "pretrained_cfg": {"input_size": [3, 224, 224], "crop_mode": "squash"}}"#;
        let open_clip = r#"{"model_cfg": {"embed_dim": 1024, "quick_gelu": true,
            "vision_cfg": {"image_size": 288, "layers": [3, 4, 6, 3], "width": 64},
            "text_cfg": {}}, "preprocess_cfg": {"size": 288}}"#;
        let both = Companions {
            config: Some(timm.into()),
            open_clip_config: Some(open_clip.into()),
            preprocessor_config: None,
        };
        for (layout, side, text) in [(Layout::OpenClip, 288, true), (Layout::Timm, 224, false)] {
            let config = both.config(layout).unwrap();
            let vision = config.vision.as_ref().map(VisionConfig::image_size);
            assert_eq!((vision, config.text.is_some()), (Some(side), text));
            assert_eq!(both.preprocess(layout, &config).unwrap().size(), side);
        }
        let none = Companions::default().config(Layout::OpenClip);
        assert!(none.unwrap_err().to_string().contains("config.json"));
    }
}
