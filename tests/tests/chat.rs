//! A chat says what the model says without one, at whatever turn, and knows
//! where its words looked.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::ops::ControlFlow;

use plume_core::Error;
use plume_core::backend::Backend;
use plume_core::checkpoint::{Layout, Source};
use plume_core::config::flamingo::FlamingoConfig;
use plume_core::image::{Family, Preprocess, Rgb8};
use plume_core::prompts::{PromptStyle, Segment};
use plume_core::tasks::chat::{Chat, Look, Seen};
use plume_core::tasks::generate::{End, Method, Options, generate};
use plume_core::tasks::score::score;
use plume_core::tasks::writer::{Writer, WriterConfig, WriterModel};
use plume_core::tensor::Tensor;
use plume_tests::writers::{Drawn, small_flamingo, tokenizer};
use plume_tests::{gpu, max_error};
use pollster::block_on;

/// A small Flamingo with more than one layer between, and room to talk.
fn sizes() -> FlamingoConfig {
    let mut config = small_flamingo();
    config.lm.context = 400;
    config.lm.layers = 3;
    config.xattn.layers = vec![0, 2];
    config.resampler.depth = 2;
    config
}

fn writer<B: Backend>(backend: &B, sizes: FlamingoConfig) -> Writer<B> {
    let preprocess = Preprocess::clip(sizes.vision.image_size(), Family::OpenClip);
    let config = WriterConfig {
        model: WriterModel::Flamingo(Box::new(sizes), preprocess),
        layout: Layout::Canonical,
        tokenizer: tokenizer().to_string(),
        style: PromptStyle::open_flamingo(),
        stops: vec![158],
    };
    Writer::load(backend, &config, &Drawn(7)).unwrap()
}

fn chat<B: Backend>(backend: &B, sizes: FlamingoConfig) -> Chat<B> {
    block_on(Chat::new(writer(backend, sizes))).unwrap()
}

fn picture(seed: u8) -> Rgb8 {
    let pixel = |i: usize| {
        ((i * 7 + i / 60) as u8)
            .wrapping_mul(seed)
            .wrapping_add(seed)
    };
    Rgb8::new(20, 16, (0..20 * 16 * 3).map(pixel).collect()).unwrap()
}

fn shown(name: &str) -> Segment {
    Segment::Image(name.into())
}

fn said(text: &str) -> Segment {
    Segment::Text(text.into())
}

fn options(method: Method, max_new_tokens: usize) -> Options {
    Options {
        max_new_tokens,
        method,
        repetition_penalty: 1.0,
        stop_tokens: vec![158],
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn pictures() -> [Rgb8; 3] {
    [3, 5, 11].map(picture)
}

fn look_at_all<B: Backend>(chat: &mut Chat<B>) {
    for (name, picture) in NAMES.iter().zip(pictures()) {
        block_on(chat.see(name, &[picture])).unwrap();
    }
}

/// Without a chat: the text, and its log-likelihood of some answers.
fn alone<B: Backend>(
    writer: &Writer<B>,
    segments: &[Segment],
    options: &Options,
    answers: &[String],
) -> (String, Vec<f32>) {
    let visual: Vec<_> = segments
        .iter()
        .filter_map(Segment::pictures)
        .map(|names| {
            let at = NAMES.iter().position(|name| *name == names[0]).unwrap();
            writer.see(&pictures()[at..=at]).unwrap()
        })
        .collect();
    let prompt = writer.prompt(segments, &visual).unwrap();
    let reading = writer.reading(&prompt).unwrap();
    let each = |_| ControlFlow::Continue(());
    let written = block_on(generate(&reading, &prompt.ids, options, each)).unwrap();
    let tokenizer = writer.tokenizer();
    let ids = |answer: &String| tokenizer.encode(&format!(" {answer}"), false).unwrap();
    let answers: Vec<_> = answers.iter().map(ids).collect();
    let scores = block_on(score(&reading, &prompt.ids, &answers)).unwrap();
    let text = tokenizer.decode(&written.ids).unwrap();
    (text, scores.iter().map(|score| score.sum).collect())
}

fn every_turn_is_as_if_it_were_the_first<B: Backend>(backend: &B) {
    turns_are_as_the_first(backend, sizes());
}

/// As flamingo-mini has them: the mark in use is not the first of several.
fn other_marks_are_marks_too<B: Backend>(backend: &B) {
    let mut sizes = sizes();
    sizes.more_image_tokens = vec![sizes.image_token];
    sizes.image_token = 157;
    turns_are_as_the_first(backend, sizes);
}

/// Turns that go on from one another, change what was said, change a picture
/// and begin anew.
fn turns_are_as_the_first<B: Backend>(backend: &B, sizes: FlamingoConfig) {
    let other = writer(backend, sizes.clone());
    let mut chat = chat(backend, sizes);
    look_at_all(&mut chat);
    let turns: Vec<Vec<Segment>> = vec![
        vec![shown("a"), said("w1 w2 w3")],
        vec![shown("a"), said("w1 w2 w3 w7 "), shown("b"), said("w4")],
        vec![shown("a"), said("w1 w2 w3 w7 "), shown("b"), said("w4")],
        vec![shown("a"), said("w1 w2 w3 w7 "), shown("c"), said("w4")],
        vec![shown("c"), said("w1 w2 w3 w7 "), shown("a"), said("w4")],
        vec![shown("c"), said("w1 w9")],
        vec![said("w5 w6")],
        vec![shown("b"), shown("b"), shown("a"), said("w5 w6")],
    ];
    let answers = ["w8".to_owned(), "w9 w10 w11".to_owned()];
    let methods = [
        Method::Greedy,
        Method::Beams {
            width: 3,
            length_penalty: 1.0,
        },
        Method::Sample {
            temperature: 1.0,
            top_k: 0,
            top_p: 0.9,
            seed: 4,
        },
    ];
    for (turn, segments) in turns.iter().enumerate() {
        for method in methods {
            let options = options(method, 12);
            let (text, expected) = alone(&other, segments, &options, &answers);
            let mut streamed = String::new();
            let answer = block_on(chat.write(segments, &options, &[], async |text| {
                streamed.extend(text);
                ControlFlow::Continue(())
            }))
            .unwrap();
            assert_eq!(answer.text, text, "turn {turn}, {method:?}");
            assert_eq!(streamed, text);
            assert_eq!(answer.prompt, chat.plan(segments).unwrap().total);
            let scores = block_on(chat.score(segments, &answers)).unwrap();
            let found: Vec<f32> = scores.iter().map(|score| score.sum).collect();
            assert!(
                max_error(&found, &expected) < 1e-3,
                "turn {turn}: {found:?} {expected:?}"
            );
        }
    }
}

/// Pictures that no prompt shows any more are forgotten, those of the last one
/// and some besides are not.
fn what_is_not_shown_is_forgotten<B: Backend>(backend: &B) {
    let mut chat = chat(backend, sizes());
    for n in 0..24u8 {
        block_on(chat.see(&n.to_string(), &[picture(n)])).unwrap();
    }
    let known = |chat: &Chat<B>| -> Vec<u8> {
        let known = (0..24).filter(|n| chat.has_seen(&n.to_string()));
        known.collect()
    };
    assert_eq!(known(&chat).len(), 24, "none was needed yet");
    let segments = [shown("2"), shown("0"), said("w1 w2")];
    let answers = ["w8 w9".to_owned()];
    let first = block_on(chat.score(&segments, &answers)).unwrap();
    let rest: Vec<u8> = [0, 2].into_iter().chain(8..24).collect();
    assert_eq!(known(&chat), rest);
    // Used again, it is one of the last.
    let other = [shown("8"), said("w1 w2")];
    block_on(
        chat.write(&other, &options(Method::Greedy, 2), &[], async |_| {
            ControlFlow::Continue(())
        }),
    )
    .unwrap();
    let rest: Vec<u8> = [0, 2, 8].into_iter().chain(10..24).collect();
    assert_eq!(known(&chat), rest);
    // Seen again, it is the same.
    for name in ["0", "2"] {
        chat.forget(name);
        let again = picture(name.parse().unwrap());
        block_on(chat.see(name, &[again])).unwrap();
    }
    assert_eq!(block_on(chat.score(&segments, &answers)).unwrap(), first);
}

/// A picture that changed under its name is another.
fn a_picture_is_forgotten<B: Backend>(backend: &B) {
    let mut chat = chat(backend, sizes());
    look_at_all(&mut chat);
    let segments = [shown("a"), said("w1 w2")];
    let answers = ["w8 w9".to_owned()];
    let scored = |chat: &mut Chat<B>, name: &str| {
        let segments = [shown(name), said("w1 w2")];
        block_on(chat.score(&segments, &answers)).unwrap()[0].sum
    };
    let (a, b) = (scored(&mut chat, "a"), scored(&mut chat, "b"));
    assert!((a - b).abs() > 1e-3, "{a} {b}");
    block_on(chat.see("a", &[picture(5)])).unwrap();
    assert!((scored(&mut chat, "a") - b).abs() < 1e-4);
    chat.forget("a");
    let error = block_on(chat.score(&segments, &answers)).unwrap_err();
    assert!(matches!(error, Error::Unseen(name) if name == "a"));
}

/// Who is told of every token may say that it is enough; what is there stays,
/// and the next turn is right.
fn stopping_leaves_what_is_there<B: Backend>(backend: &B) {
    let other = writer(backend, sizes());
    let mut chat = chat(backend, sizes());
    look_at_all(&mut chat);
    let segments = [shown("a"), said("w1 w2 w3")];
    let all = alone(&other, &segments, &options(Method::Greedy, 12), &[]).0;
    let mut tokens = 0;
    let answer = block_on(
        chat.write(&segments, &options(Method::Greedy, 12), &[], async |text| {
            tokens += usize::from(text.is_some());
            if tokens == 4 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }),
    )
    .unwrap();
    assert_eq!((answer.end, answer.tokens), (End::Told, 4));
    assert!(all.starts_with(&answer.text), "{all} {}", answer.text);
    // Of a search the best text so far is left, all of its words.
    let beams = Method::Beams {
        width: 3,
        length_penalty: 1.0,
    };
    let mut free = options(beams, 12);
    free.stop_tokens.clear();
    let mut asked = 0;
    let answer = block_on(chat.write(&segments, &free, &[], async |_| {
        asked += 1;
        if asked >= 6 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }));
    let answer = answer.unwrap();
    let words = answer.text.split_whitespace().count();
    assert!(answer.tokens > 2 && answer.tokens < 12, "{answer:?}");
    assert_eq!((answer.end, words), (End::Told, answer.tokens));
    let go_on = async |_: Option<&str>| ControlFlow::Continue(());
    let again = block_on(chat.write(&segments, &options(Method::Greedy, 12), &[], go_on));
    assert_eq!(again.unwrap().text, all);
    // Stopped while a long prompt is read, a piece of which is read already.
    let words = "w5 w6 w7 ".repeat(100);
    let long = [shown("b"), said(&words)];
    let fresh = alone(&other, &long, &options(Method::Greedy, 12), &[]).0;
    let mut pieces = 0;
    let greedy = options(Method::Greedy, 12);
    let answer = block_on(chat.write(&long, &greedy, &[], async |_| {
        pieces += 1;
        if pieces == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }));
    let answer = answer.unwrap();
    assert_eq!(
        (answer.end, answer.tokens, &*answer.text),
        (End::Told, 0, "")
    );
    let again = block_on(chat.write(&long, &options(Method::Greedy, 12), &[], go_on));
    assert_eq!(again.unwrap().text, fresh);
    let again = block_on(chat.write(&segments, &options(Method::Greedy, 12), &[], go_on));
    assert_eq!(again.unwrap().text, all);
    // A string that ends it is left out.
    let word = all.split(' ').nth(2).unwrap().to_owned();
    let until = all[..all.find(&word).unwrap()].to_owned();
    let stops = [word];
    let again = block_on(chat.write(&segments, &options(Method::Greedy, 12), &stops, go_on));
    let again = again.unwrap();
    assert_eq!((again.text, again.end), (until, End::Token));
}

/// What is written is as long as there is room for, and a prompt without any is
/// refused before it is run.
fn the_context_is_kept_to<B: Backend>(backend: &B) {
    let mut sizes = sizes();
    sizes.lm.context = 12;
    let mut chat = chat(backend, sizes);
    look_at_all(&mut chat);
    let go_on = async |_: Option<&str>| ControlFlow::Continue(());
    let long = options(Method::Greedy, 99);
    let segments = [shown("a"), said("w1 w2 w3")];
    let mut free = long.clone();
    free.stop_tokens.clear();
    let answer = block_on(chat.write(&segments, &free, &[], go_on)).unwrap();
    assert_eq!((answer.end, answer.tokens), (End::Length, 8));
    let segments = [shown("a"), said("w1 w2 w3 w1 w2 w3 w1 w2 w3 w1 w2")];
    let error = block_on(chat.write(&segments, &long, &[], go_on)).unwrap_err();
    let full = matches!(
        error,
        Error::CacheFull {
            capacity: 12,
            needed: 13
        }
    );
    assert!(full, "{error}");
    let plan = chat.plan(&[shown("a"), said("w1 w2 "), shown("b"), said("w3")]);
    let plan = plan.unwrap();
    assert_eq!(plan.text, "<image>w1 w2 <image>w3");
    assert_eq!((plan.tokens, plan.total), (vec![1, 2, 1, 1], 5));
}

fn look<B: Backend>(chat: &mut Chat<B>, segments: &[Segment], layers: &[usize]) -> Vec<Look> {
    for (name, picture) in NAMES.iter().zip(pictures()) {
        block_on(chat.trace(name, &[picture])).unwrap();
    }
    let go_on = async |_: Option<&str>| ControlFlow::Continue(());
    let mut options = options(Method::Greedy, 5);
    options.stop_tokens.clear();
    let answer = block_on(chat.write(segments, &options, &[], go_on)).unwrap();
    let looks = block_on(chat.look(segments, &answer.text, layers)).unwrap();
    let words: Vec<&str> = looks.iter().map(|look| look.word.trim()).collect();
    assert_eq!(words.join(" "), answer.text);
    looks
}

/// How much each cell of each picture had of all attention.
fn parts(look: &Look) -> Vec<f32> {
    let parts = |seen: &Seen| seen.cells.iter().map(|cell| cell * seen.share).collect();
    look.seen
        .iter()
        .flat_map(|s: &Seen| -> Vec<f32> { parts(s) })
        .collect()
}

/// Each word sees the last picture, or all; what it saw in several layers is
/// what it saw in each, by their gates; and looking changes nothing.
fn words_look_at_pictures<B: Backend>(backend: &B) {
    let segments = [shown("a"), said("w1 w2 "), shown("b"), said("w3")];
    for all_previous in [false, true] {
        let mut sizes = sizes();
        sizes.xattn.all_previous = all_previous;
        let mut chat = chat(backend, sizes.clone());
        look_at_all(&mut chat);
        let both = look(&mut chat, &segments, &[]);
        for look in &both {
            let names: Vec<&str> = look.seen.iter().map(|s| s.picture.as_str()).collect();
            assert_eq!(
                names,
                if all_previous {
                    vec!["a", "b"]
                } else {
                    vec!["b"]
                }
            );
            for seen in &look.seen {
                assert_eq!(seen.cells.len(), chat.side().unwrap().pow(2));
                assert!((seen.cells.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            }
            assert!((parts(look).iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
        let gates: Vec<f32> = chat.gates().iter().map(|(_, gate, _)| gate.abs()).collect();
        let (first, last) = (
            look(&mut chat, &segments, &[0]),
            look(&mut chat, &segments, &[2]),
        );
        for ((both, first), last) in both.iter().zip(&first).zip(&last) {
            let mixed = parts(first).into_iter().zip(parts(last));
            let mixed = mixed.map(|(a, b)| (gates[0] * a + gates[1] * b) / (gates[0] + gates[1]));
            assert!(max_error(&parts(both), &mixed.collect::<Vec<_>>()) < 1e-4);
            assert!(max_error(&parts(first), &parts(last)) > 1e-3);
        }
        // Nothing to see.
        let blind = look(&mut chat, &[said("w1 w2")], &[]);
        assert!(blind.iter().all(|look| look.seen.is_empty()));
    }
}

/// The rows of a matrix of [`Drawn`] times a vector.
fn times(name: &str, out: usize, x: &[f64]) -> Vec<f64> {
    let matrix = Drawn(7).read(name, &[out, x.len()]).unwrap().into_f32();
    let rows = matrix.chunks_exact(x.len());
    rows.map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum())
        .collect()
}

fn normed(name: &str, x: &[f32]) -> Vec<f64> {
    let read = |part: &str| Drawn(7).read(&format!("{name}.{part}"), &[x.len()]);
    let (weight, bias) = (
        read("weight").unwrap().into_f32(),
        read("bias").unwrap().into_f32(),
    );
    let count = x.len() as f64;
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let spread = x
        .iter()
        .map(|x| (f64::from(*x) - mean).powi(2))
        .sum::<f64>()
        / count;
    let pairs = x.iter().zip(weight.iter().zip(&bias));
    pairs
        .map(|(x, (w, b))| {
            (f64::from(*x) - mean) / (spread + 1e-5).sqrt() * f64::from(*w) + f64::from(*b)
        })
        .collect()
}

/// The mean over two heads of 32 of a softmax over keys.
fn attention(q: &[f64], keys: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; keys.len()];
    for head in [0..32, 32..64] {
        let exp = |key: &Vec<f64>| {
            let pairs = q[head.clone()].iter().zip(&key[head.clone()]);
            (pairs.map(|(q, k)| q * k).sum::<f64>() / 32f64.sqrt()).exp()
        };
        let all: Vec<f64> = keys.iter().map(exp).collect();
        let whole: f64 = all.iter().sum();
        mean.iter_mut()
            .zip(all)
            .for_each(|(mean, exp)| *mean += exp / whole / 2.0);
    }
    mean
}

/// In the first layer, through a resampler of one layer, from nothing but the
/// weights, the features and the visual tokens.
fn words_looked_where_they_did<B: Backend>(backend: &B) {
    let mut sizes = sizes();
    sizes.resampler.depth = 1;
    // A class token, which is nowhere in the picture.
    sizes.features.class_token = true;
    let writer = writer(backend, sizes.clone());
    let segments = [shown("a"), said("w1 w2 "), shown("b"), said("w3")];
    let mut chat = chat(backend, sizes);
    look_at_all(&mut chat);
    let looks = look(&mut chat, &segments, &[0]);
    // The second picture.
    let preprocess = Preprocess::clip(16, Family::OpenClip);
    let pixels = preprocess.apply(&picture(5));
    let pixels = Tensor::upload(backend, &pixels, &[1, 16, 16, 3]).unwrap();
    let flamingo = writer.flamingo().unwrap();
    let read = |tensor: &Tensor<B>| block_on(tensor.read()).unwrap();
    let features = read(&flamingo.features(&pixels).unwrap());
    let visual = read(&writer.see(&[picture(5)]).unwrap());
    assert_eq!((features.len(), visual.len()), (5 * 64, 4 * 64));
    // From features to visual tokens: latents attend to features and latents.
    let latents = Drawn(7)
        .read("resampler.latents", &[4, 64])
        .unwrap()
        .into_f32();
    let of = |name: &str, rows: &[f32]| -> Vec<Vec<f64>> {
        rows.chunks_exact(64)
            .map(|row| normed(&format!("resampler.layers.0.{name}"), row))
            .collect()
    };
    let (media, normed_latents) = (of("norm_media", &features), of("norm_latents", &latents));
    let keys: Vec<_> = media
        .iter()
        .chain(&normed_latents)
        .map(|row| times("resampler.layers.0.to_kv.weight", 128, row))
        .collect();
    let origins: Vec<Vec<f64>> = normed_latents
        .iter()
        .map(|row| {
            let q = times("resampler.layers.0.to_q.weight", 64, row);
            let cells = attention(&q, &keys)[1..5].to_vec();
            let whole: f64 = cells.iter().sum();
            cells.into_iter().map(|cell| cell / whole).collect()
        })
        .collect();
    // From words to visual tokens: a word is chosen by the token before it.
    let keys: Vec<_> = visual
        .chunks_exact(64)
        .map(|row| {
            let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
            times("xattn.0.to_kv.weight", 128, &row)
        })
        .collect();
    let table = Drawn(7)
        .read("lm.token_embedding", &[160, 64])
        .unwrap()
        .into_f32();
    let words = looks.iter().map(|look| look.word.trim());
    let before = std::iter::once("w3").chain(words);
    for (before, look) in before.zip(&looks) {
        let id = writer.tokenizer().id(before).unwrap() as usize;
        let x = normed("xattn.0.norm", &table[id * 64..(id + 1) * 64]);
        let weights = attention(&times("xattn.0.to_q.weight", 64, &x), &keys);
        let cell = |cell: usize| -> f32 {
            let parts = weights.iter().zip(&origins);
            parts
                .map(|(weight, origin)| weight * origin[cell])
                .sum::<f64>() as f32
        };
        let expected = [0, 1, 2, 3].map(cell);
        let [seen] = look.seen.as_slice() else {
            panic!("one picture, not {}", look.seen.len());
        };
        assert_eq!(seen.picture, "b");
        assert!((seen.share - 1.0).abs() < 1e-6, "{}", seen.share);
        let error = max_error(&seen.cells, &expected);
        assert!(error < 1e-5, "{error}: {:?} {expected:?}", seen.cells);
    }
}

macro_rules! on_both_devices {
    ($($test:ident),* $(,)?) => {
        mod cpu {
            $(
                #[test]
                fn $test() {
                    super::$test(&plume_core::cpu::Candle::new());
                }
            )*
        }
        mod gpu {
            $(
                #[test]
                fn $test() {
                    if let Some(gpu) = super::gpu() {
                        super::$test(&gpu);
                    }
                }
            )*
        }
    };
}

on_both_devices!(
    every_turn_is_as_if_it_were_the_first,
    other_marks_are_marks_too,
    a_picture_is_forgotten,
    what_is_not_shown_is_forgotten,
    stopping_leaves_what_is_there,
    the_context_is_kept_to,
    words_look_at_pictures,
    words_looked_where_they_did,
);
