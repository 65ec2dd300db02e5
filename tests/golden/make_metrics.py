"""Makes `metrics.json`: what the reference implementations of the benchmarks'
metrics say of small examples.

VQA accuracy is that of open_flamingo's copy of the official evaluation, CIDEr-D
and the words of captions those of pycocoevalcap (which runs Java), the area
under the curve that of scikit-learn. Winoground and ARO publish a few lines,
written out here as their papers define them.

usage: python tests/golden/make_metrics.py
"""

import json
import pathlib
import random

import numpy as np
from open_flamingo.eval.vqa_metric import VQA, VQAEval, postprocess_vqa_generation
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
from sklearn.metrics import roc_auc_score

HERE = pathlib.Path(__file__).parent

ANSWERS = [
    "Yes.", "no", "The cat's toy", "two", "ten dogs", "none", "1,000 people", "a - b", "well-known",
    "red/blue", "dont know", "it's 5 o'clock", "oclock", "he said: \"hi\"", "3.5 kg", "U.S.A.",
    "an apple , a pear", "  on the\ttable\n", "what's that?", "whats that", "couldnt've",
    "couldn'tve", "somebody'd", "lets go", "shes here", "twas", "'ow'sat", "yall'd've", "(none)",
    "10:30", "$5", "@home", "_", "", "?!", "a", "...", "1.", ".5", "5, 6", "5,6;7", "Zero", "A B C",
]

CAPTIONS = [
    "A cat's toy, isn't it?",
    "A two-tone car (red) and a half-eaten sandwich.",
    "10 dogs... and 3.5 cats; 1,000 birds!",
    "It's 5 o'clock: don't you cannot gonna wanna.",
    'A man said "hello there" to me.',
    "The price is $5 at A&B on 50% off #1.",
    "a/b testing and/or Mr. Smith of the U.S. Army",
    "He's we'll they're I'm you've she'd dogs' toys",
    "A man , a woman -- both [old] {young} - smile",
    "'quoted' words and `back` ticks",
    'a t-shirt with the words "I ♥ NY" on it',
    'a street sign that reads "Main St."',
    "Two people. Another sentence here",
    "a 3/4 view at 10:30 a.m. on the 4th of July",
    "a caption with trailing space ",
    "Café à Paris @ home",
    "an e.g. example i.e. this vs. that",
    "red,green and blue:yellow;white",
    "a pizza cut into slices,with cheese.",
    "two giraffes standing next to each other!!",
    "let's gimme lemme 'tis 'twas",
    "A person’s “best” friend",
]

WORDS = "a red blue small large cat dog circle square on under near the two three of and".split()


def normalized():
    evaluation = VQAEval(None, None)

    def normalize(answer):
        answer = answer.replace("\n", " ").replace("\t", " ").strip()
        return evaluation.processDigitArticle(evaluation.processPunctuation(answer))

    return [[answer, normalize(answer)] for answer in ANSWERS]


def vqa(draw):
    """Cases, each its answer and those of ten people, and its accuracy."""
    pool = ["yes", "Yes.", "no", "two", "2", "a cat", "cat", "cats", "dont know", "don't know"]
    cases = []
    for i in range(24):
        few = draw.sample(pool, draw.randint(1, 5))
        people = [draw.choice(few) for _ in range(10)]
        cases.append((draw.choice(pool), people))
    truth, said = VQA(), VQA()
    for i, (answer, people) in enumerate(cases):
        answers = [{"answer": a, "answer_id": j} for j, a in enumerate(people)]
        truth.qa[i] = {"answers": answers, "question_type": "any", "answer_type": "any"}
        said.qa[i] = {"answer": answer}
    evaluation = VQAEval(None, None, n=6)
    evaluation.vqa, evaluation.vqaRes = truth, said
    # Every answer is put through the rules in place: the cases are kept as they were.
    evaluation.evaluate(list(range(len(cases))))
    return [
        {"answer": answer, "people": people, "accuracy": evaluation.evalQA[i]}
        for i, (answer, people) in enumerate(cases)
    ]


def cider(draw):
    def sentence():
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 12)))

    cases = []
    for i in range(20):
        references = [sentence() for _ in range(draw.randint(1, 5))]
        words = draw.choice(references).split()
        # Near to a reference: exchanged, repeated, cut; or something else altogether.
        for _ in range(draw.randint(0, 3)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        words = words * draw.choice([1, 1, 1, 2]) if i % 5 else sentence().split()
        cases.append({"caption": " ".join(words), "references": references})
    cases.append({"caption": "", "references": ["a cat"]})
    cases.append({"caption": "a cat", "references": ["a cat"]})
    scorer = CiderScorer(n=4, sigma=6.0)
    for case in cases:
        scorer += (case["caption"], case["references"])
    mean, scores = scorer.compute_score()
    for case, score in zip(cases, scores):
        case["score"] = float(score)
    return {"mean": float(mean), "cases": cases}


def words():
    cases = {i: [{"caption": caption}] for i, caption in enumerate(CAPTIONS)}
    found = PTBTokenizer().tokenize(cases)
    return [[caption, found[i][0]] for i, caption in enumerate(CAPTIONS)]


def curves(draw):
    cases = []
    for n, levels in [(2, 9), (10, 4), (40, 1000), (40, 6)]:
        scores = [draw.randrange(levels) / levels - 0.5 for _ in range(n)]
        positive = [i == 0 or (i > 1 and draw.random() < 0.4) for i in range(n)]
        area = float(roc_auc_score(positive, scores))
        cases.append({"scores": scores, "positive": positive, "area": area})
    return cases


def winoground(draw):
    s = np.array([[[draw.randrange(6) / 5 for _ in "ab"] for _ in "ab"] for _ in range(60)])
    # s[case, caption, picture]
    text = (s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1])
    image = (s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0])
    parts = {"text": text, "image": image, "group": text & image}
    return {"scores": s.tolist(), **{name: float(part.mean()) for name, part in parts.items()}}


def aro(draw):
    kinds = [draw.choice("aaaabbbbcd") for _ in range(60)]
    right = [draw.random() < 0.6 for _ in kinds]
    means = {}
    for least in (1, 10):
        counted = [kind for kind in sorted(set(kinds)) if kinds.count(kind) >= least]
        parts = [np.mean([r for k, r in zip(kinds, right) if k == kind]) for kind in counted]
        means[str(least)] = float(np.mean(parts))
    return {"kinds": kinds, "right": right, "means": means}


def main():
    draw = random.Random(4)
    said = ["2, or 3", "red Question: what", "a cat Short answer: no", "yes", "Answer", "a,b, c"]
    golden = {
        "normalized": normalized(),
        "vqa": vqa(draw),
        "vqa_said": [[text, postprocess_vqa_generation(text)] for text in said],
        "cider": cider(draw),
        "caption_words": words(),
        "roc_auc": curves(draw),
        "winoground": winoground(draw),
        "aro": aro(draw),
    }
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    (HERE / "metrics.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
