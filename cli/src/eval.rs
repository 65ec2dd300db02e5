//! Measuring a model that writes on cases of one's own: shots, prompts by the
//! checkpoint's conventions, and the benchmarks' metrics.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use plume_core::backend::Backend;
use plume_core::prompts::{Ask, Segment, Shot, rices};
use plume_core::tasks::generate::{Method, Options, generate};
use plume_core::tasks::metrics::{
    caption_words, cider_d, roc_auc, said_answer, said_caption, top_1, vqa_accuracy, winoground,
};
use plume_core::tasks::score::{Likelihood, ensemble, orders, score};
use plume_core::tasks::writer::Writer;
use plume_core::tensor::Tensor;
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::pictures;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Captions: CIDEr-D.
    Caption,
    /// Questions: the accuracy of VQA.
    Vqa,
    /// Classes: how often the right one is the likeliest.
    Classify,
    /// Whether a picture with words is hateful: the area under the curve.
    Hateful,
    /// Two captions and two pictures: which belong together.
    Winoground,
}

/// How shots are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// By chance.
    Random,
    /// The most similar pictures, the most similar last.
    Rices,
}

/// A picture, or two, what is asked, and what is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// One; two for Winoground.
    pub images: Vec<String>,
    /// What is asked.
    pub ask: Ask,
    /// Captions, people's answers, the one class; a caption of each picture for
    /// Winoground.
    pub answers: Vec<String>,
}

/// A line of a file of cases.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    image: Option<String>,
    images: Option<Vec<String>>,
    captions: Option<Vec<String>>,
    question: Option<String>,
    answers: Option<Vec<String>>,
    text: Option<String>,
    label: Option<String>,
}

impl Task {
    /// Reads cases, one in each line of JSON; pictures are found from where the
    /// file lies.
    ///
    /// # Errors
    /// Says which line lacks what.
    pub fn cases(self, file: &Path) -> Result<Vec<Case>> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let cases = lines.map(|(number, line)| {
            let case = serde_json::from_str(line)
                .map_err(anyhow::Error::from)
                .and_then(|line| self.case(line, folder));
            case.with_context(|| format!("{}, line {}", file.display(), number + 1))
        });
        let cases = cases.collect::<Result<Vec<_>>>()?;
        ensure!(!cases.is_empty(), "{} holds no cases", file.display());
        Ok(cases)
    }

    fn case(self, line: Line, folder: &Path) -> Result<Case> {
        let image = line.image.map(|image| vec![image]);
        let (images, ask, answers, needs) = match self {
            Self::Caption => (
                image,
                Some(Ask::Caption),
                line.captions,
                "image and captions",
            ),
            Self::Vqa => {
                let ask = line.question.map(Ask::Question);
                (image, ask, line.answers, "image, question and answers")
            }
            Self::Classify => {
                let label = line.label.map(|label| vec![label]);
                (image, Some(Ask::Class), label, "image and label")
            }
            Self::Hateful => {
                let label = line.label.filter(|label| HATEFUL.contains(&label.as_str()));
                let (ask, label) = (line.text.map(Ask::Hateful), label.map(|label| vec![label]));
                (image, ask, label, "image, text and label (yes or no)")
            }
            Self::Winoground => {
                let images = line.images.filter(|images| images.len() == 2);
                let captions = line.captions.filter(|captions| captions.len() == 2);
                let needs = "two images and two captions";
                (images, Some(Ask::Caption), captions, needs)
            }
        };
        match (images, ask, answers) {
            (Some(images), Some(ask), Some(answers)) if !answers.is_empty() => Ok(Case {
                images: images
                    .iter()
                    .map(|image| folder.join(image).to_string_lossy().into_owned())
                    .collect(),
                ask,
                answers,
            }),
            _ => bail!("expected {needs}"),
        }
    }

    /// The answers of which the likeliest counts, if it is that kind of task.
    fn options(self, cases: &[&[Case]]) -> Vec<String> {
        match self {
            Self::Caption | Self::Vqa | Self::Winoground => Vec::new(),
            Self::Hateful => HATEFUL.map(str::to_owned).to_vec(),
            Self::Classify => {
                let all = cases.iter().copied().flatten();
                let labels: BTreeSet<_> = all.flat_map(|case| &case.answers).collect();
                labels.into_iter().cloned().collect()
            }
        }
    }

    /// What the figure is called, and what it is multiplied with.
    pub fn metric(self) -> (&'static str, f64) {
        match self {
            // Each score is 0 to 10, and papers have the mean times 10.
            Self::Caption => ("CIDEr-D", 10.0),
            Self::Vqa => ("VQA accuracy", 100.0),
            Self::Classify => ("top-1", 100.0),
            Self::Hateful => ("ROC-AUC", 100.0),
            Self::Winoground => ("group", 100.0),
        }
    }

    /// Most tokens that are written, if nothing else is said (`evaluate.py` of
    /// OpenFlamingo, which gives TextVQA 10).
    fn longest(self) -> usize {
        match self {
            Self::Vqa => 5,
            _ => 20,
        }
    }
}

/// Hateful or not.
const HATEFUL: [&str; 2] = ["no", "yes"];

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What.
    pub task: Task,
    /// Numbers of shots; with 0, two are shown in words alone.
    pub shots: Vec<usize>,
    /// How they are chosen.
    pub selection: Selection,
    /// Beams of the search for captions and answers.
    pub beams: usize,
    /// Most tokens of a caption or an answer, if not as many as is usual.
    pub max_new_tokens: Option<usize>,
    /// Orders of the shots over which likelihoods are averaged, where so many
    /// there are.
    pub orders: usize,
    /// The same seed chooses the same shots.
    pub seed: u64,
}

/// What a model said of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    /// Which of the support were shown, in their order.
    pub shots: Vec<usize>,
    /// What was written, as it is compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How likely each option is: of one token on average, or, for Winoground,
    /// each caption with each picture.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub likelihoods: Vec<f64>,
}

/// All cases with one number of shots.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Shots.
    pub shots: usize,
    /// The figure, as papers give it; none where all cases are of one kind and
    /// there is no curve.
    pub value: Option<f64>,
    /// Winoground's other two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<f64>,
    /// See `text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<f64>,
    /// Of each case.
    pub cases: Vec<Said>,
}

/// A model with cases to learn from and cases to answer.
pub struct Evaluation<'a, B: Backend> {
    writer: &'a Writer<B>,
    plan: &'a Plan,
    cases: &'a [Case],
    support: &'a [Case],
    options: Vec<String>,
    /// Embeddings of the pictures of cases and support, for RICES.
    likeness: Option<[Vec<Vec<f32>>; 2]>,
    seen: RefCell<BTreeMap<String, Tensor<B>>>,
}

impl<'a, B: Backend> Evaluation<'a, B> {
    /// `likeness`: the embeddings, of length one, of the first picture of each
    /// case and of each of the support.
    ///
    /// # Errors
    /// Where the support is too small, or shots are to be chosen by likeness
    /// without embeddings.
    pub fn new(
        writer: &'a Writer<B>,
        plan: &'a Plan,
        [cases, support]: [&'a [Case]; 2],
        likeness: Option<[Vec<Vec<f32>>; 2]>,
    ) -> Result<Self> {
        ensure!(
            likeness.is_some() || plan.selection == Selection::Random,
            "shots are chosen by likeness with a CLIP: give one with --clip"
        );
        Ok(Self {
            writer,
            plan,
            cases,
            support,
            options: plan.task.options(&[cases, support]),
            likeness,
            seen: RefCell::default(),
        })
    }

    /// The answers that were compared.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// One row for each number of shots. `progress` is told each case that is
    /// done.
    ///
    /// # Errors
    /// Where a picture cannot be read, a prompt is too long or the device
    /// fails.
    pub async fn run(&self, mut progress: impl FnMut()) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for &shots in &self.plan.shots {
            let mut said = Vec::with_capacity(self.cases.len());
            for number in 0..self.cases.len() {
                let one = self.case(number, shots).await;
                said.push(one.with_context(|| format!("case {} with {shots} shots", number + 1))?);
                progress();
            }
            rows.push(self.row(shots, said));
        }
        Ok(rows)
    }

    async fn case(&self, number: usize, shots: usize) -> Result<Said> {
        let case = &self.cases[number];
        let chosen = self.choose(number, shots)?;
        match self.plan.task {
            Task::Caption | Task::Vqa => {
                let segments = self.prompt(case, 0, &chosen, shots);
                Ok(Said {
                    text: Some(self.write(&segments).await?),
                    shots: chosen,
                    likelihoods: Vec::new(),
                })
            }
            Task::Classify | Task::Hateful => {
                let each = self.likely(case, 0, &chosen, shots, &self.options).await?;
                Ok(Said {
                    text: None,
                    shots: chosen,
                    likelihoods: each.iter().map(|one| f64::from(one.mean)).collect(),
                })
            }
            Task::Winoground => {
                // [picture][caption] → [caption][picture].
                let a = self.likely(case, 0, &chosen, shots, &case.answers).await?;
                let b = self.likely(case, 1, &chosen, shots, &case.answers).await?;
                let pairs = a.iter().zip(&b).flat_map(|(a, b)| [a.sum, b.sum]);
                Ok(Said {
                    text: None,
                    shots: chosen,
                    likelihoods: pairs.map(f64::from).collect(),
                })
            }
        }
    }

    /// Which of the support are shown; never the case itself.
    fn choose(&self, number: usize, shots: usize) -> Result<Vec<usize>> {
        let case = &self.cases[number];
        let others = |i: &usize| self.support[*i].images[0] != case.images[0];
        let others: Vec<usize> = (0..self.support.len()).filter(others).collect();
        // Two in words, where there are any (Flamingo App. B.1.5).
        let count = if shots == 0 {
            2.min(others.len())
        } else {
            shots
        };
        ensure!(
            count <= others.len(),
            "{count} shots of {} that there are to choose from: give more with --support",
            others.len()
        );
        Ok(match &self.likeness {
            Some([cases, support]) if self.plan.selection == Selection::Rices => {
                let support: Vec<_> = others.iter().map(|&i| support[i].clone()).collect();
                let nearest = rices(&cases[number], &support, count);
                nearest.into_iter().map(|i| others[i]).collect()
            }
            _ => {
                // Of each case its own, whatever is asked before it.
                let seed = self
                    .plan
                    .seed
                    .wrapping_mul(1 << 20)
                    .wrapping_add(number as u64);
                let mut random = Pcg64Mcg::seed_from_u64(seed);
                let drawn = sample(&mut random, others.len(), count);
                drawn.into_iter().map(|i| others[i]).collect()
            }
        })
    }

    fn prompt(&self, case: &Case, image: usize, chosen: &[usize], shots: usize) -> Vec<Segment> {
        let shown = chosen.iter().map(|&i| Shot {
            image: self.support[i].images[0].clone(),
            ask: self.support[i].ask.clone(),
            answer: self.support[i].answers[0].clone(),
        });
        let shown: Vec<Shot> = shown.collect();
        let (style, image) = (self.writer.style(), &case.images[image]);
        if shots == 0 {
            style.zero_shot(&shown, image, &case.ask)
        } else {
            style.few_shot(&shown, image, &case.ask)
        }
    }

    /// Every picture is seen once.
    fn visual(&self, segments: &[Segment]) -> Result<Vec<Tensor<B>>> {
        let names = segments.iter().filter_map(Segment::pictures).flatten();
        let see = |name: &String| {
            if let Some(seen) = self.seen.borrow().get(name) {
                return Ok(seen.clone());
            }
            let visual = self.writer.see(&[pictures::open(Path::new(name))?])?;
            self.seen.borrow_mut().insert(name.clone(), visual.clone());
            Ok(visual)
        };
        names.map(see).collect()
    }

    async fn write(&self, segments: &[Segment]) -> Result<String> {
        let prompt = self.writer.prompt(segments, &self.visual(segments)?)?;
        let options = Options {
            max_new_tokens: self
                .plan
                .max_new_tokens
                .unwrap_or_else(|| self.plan.task.longest()),
            method: match self.plan.beams {
                1 => Method::Greedy,
                width => Method::Beams {
                    width,
                    length_penalty: 0.0,
                },
            },
            repetition_penalty: 1.0,
            stop_tokens: self.writer.stops().to_vec(),
        };
        let reading = self.writer.reading(&prompt)?;
        let go_on = |_| ControlFlow::Continue(());
        let written = generate(&reading, &prompt.ids, &options, go_on).await?;
        let text = self.writer.tokenizer().decode(&written.ids)?;
        let text = self.writer.style().before_end(&text);
        Ok(match self.plan.task {
            Task::Vqa => said_answer(text).to_owned(),
            _ => said_caption(text),
        })
    }

    /// How likely each option is, over several orders of the shots.
    async fn likely(
        &self,
        case: &Case,
        image: usize,
        chosen: &[usize],
        shots: usize,
        options: &[String],
    ) -> Result<Vec<Likelihood>> {
        let blank = self.writer.style().before_answer(&case.ask);
        let encode = |option: &String| {
            let option = format!("{blank}{option}");
            self.writer.tokenizer().encode(&option, false)
        };
        let answers: Vec<Vec<u32>> = options.iter().map(encode).collect::<Result<_, _>>()?;
        let most = (1..=chosen.len()).try_fold(1, |all: usize, n| all.checked_mul(n));
        let count = self.plan.orders.min(most.unwrap_or(usize::MAX)).max(1);
        let mut scorings = Vec::with_capacity(count);
        let all = match count {
            1 => vec![(0..chosen.len()).collect()],
            _ => orders(chosen.len(), count, self.plan.seed),
        };
        for order in all {
            let shown: Vec<usize> = order.iter().map(|&i| chosen[i]).collect();
            let segments = self.prompt(case, image, &shown, shots);
            let prompt = self.writer.prompt(&segments, &self.visual(&segments)?)?;
            let reading = self.writer.reading(&prompt)?;
            scorings.push(score(&reading, &prompt.ids, &answers).await?);
        }
        Ok(ensemble(&scorings))
    }

    fn row(&self, shots: usize, said: Vec<Said>) -> Row {
        let pairs = || self.cases.iter().zip(&said);
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let text = |said: &Said| said.text.clone().unwrap_or_default();
        let (_, factor) = self.plan.task.metric();
        let mut others = None;
        let value = match self.plan.task {
            Task::Caption => Some({
                let words = |caption: &str| caption_words(caption).join(" ");
                let texts = pairs().map(|(case, said)| {
                    let right = case.answers.iter().map(|caption| words(caption));
                    (words(&text(said)), right.collect())
                });
                mean(cider_d(&texts.collect::<Vec<(String, Vec<String>)>>()))
            }),
            Task::Vqa => Some({
                let right = pairs().map(|(case, said)| vqa_accuracy(&text(said), &case.answers));
                mean(right.collect())
            }),
            Task::Classify => Some(top_1(pairs().map(|(case, said)| {
                let right = self.options.iter().position(|o| *o == case.answers[0]);
                (said.likelihoods.as_slice(), right.unwrap_or(usize::MAX))
            }))),
            Task::Hateful => {
                // exp(yes) / (exp(no) + exp(yes)), which rises with yes − no.
                let scores: Vec<f64> = said
                    .iter()
                    .map(|said| 1.0 / (1.0 + (said.likelihoods[0] - said.likelihoods[1]).exp()))
                    .collect();
                let hateful: Vec<bool> = self
                    .cases
                    .iter()
                    .map(|c| c.answers[0] == HATEFUL[1])
                    .collect();
                roc_auc(&scores, &hateful)
            }
            Task::Winoground => {
                let scores = said.iter().map(|said| {
                    let s = &said.likelihoods;
                    [[s[0], s[1]], [s[2], s[3]]]
                });
                let found = winoground(&scores.collect::<Vec<_>>());
                others = Some((found.text * factor, found.image * factor));
                Some(found.group)
            }
        };
        Row {
            shots,
            value: value.map(|value| value * factor),
            text: others.map(|others| others.0),
            image: others.map(|others| others.1),
            cases: said,
        }
    }
}
