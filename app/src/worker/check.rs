//! A model held against what is known of it.

use plume_core::Error;
use plume_core::backend::Backend;
use plume_core::image::Rgb8;
use plume_core::tasks::classify::Classifier;
use plume_core::tasks::verify::{Finding, Golden, Published, tolerance};

use super::files::Opened;

/// What was recorded of a model, and how far it may be from that.
pub(super) struct Known {
    /// What `plume verify --record` wrote, where it lies beside the model.
    golden: Option<String>,
    published: Option<Published>,
    tolerance: f32,
}

impl Known {
    pub(super) fn of(files: &Opened) -> Self {
        Self {
            golden: files.golden.clone(),
            published: files.published.clone(),
            tolerance: tolerance(&files.checkpoint),
        }
    }

    /// Expected beside found, and what could not be looked at.
    pub(super) async fn check<B: Backend>(
        &self,
        classifier: &mut Classifier<B>,
        picture: Option<&Rgb8>,
    ) -> Result<(Vec<Finding>, Vec<String>), Error> {
        let (mut findings, mut notes) = (Vec::new(), Vec::new());
        match (&self.published, picture) {
            (Some(published), Some(picture)) => {
                findings.extend(published.check(classifier, picture).await?);
            }
            (Some(Published { model, picture, .. }), None) => notes.push(format!(
                "Numbers are published for {model}, which has these sizes: for them add {picture} to the pictures and check again."
            )),
            (None, _) => {}
        }
        let golden = self.golden.as_deref().map(serde_json::from_str::<Golden>);
        match golden {
            None => notes.push("No embeddings are recorded for this model.".to_owned()),
            Some(Ok(golden)) if golden != Golden::default() => {
                let found = Golden::record(classifier).await?;
                findings.extend(golden.compare(&found, self.tolerance));
            }
            Some(_) => notes.push(
                "The golden.json beside this model holds no embeddings of plume verify --record."
                    .to_owned(),
            ),
        }
        Ok((findings, notes))
    }
}
