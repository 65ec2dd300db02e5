//! The accuracy of answers to questions about pictures (Antol et al. 2015), by
//! the rules of its official evaluation (`vqaEval.py`).

/// Signs that are left out or become blanks.
const SIGNS: &str = ";/[]\"{}()=+\\_-><@`,?!";
/// The official evaluation takes out so many full stops at most: it gives a
/// flag where its regular expression takes a count.
const STOPS: usize = 32;
const ARTICLES: [&str; 3] = ["a", "an", "the"];
const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];
/// A word that is one of these but for one apostrophe gets it back.
const CONTRACTIONS: &str = "\
    'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't \
    hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am \
    might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've \
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've \
    someone'll someone's something'd something'd've something'll that's there'd there'd've \
    there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't \
    what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's \
    who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll \
    you'd you'd've you'll you're you've";

/// An answer as it is compared: without punctuation, capitals and articles,
/// numbers as digits, contractions with their apostrophes.
pub fn normalize_answer(answer: &str) -> String {
    let answer = answer.replace(['\n', '\t'], " ");
    let plain = unpunctuated(answer.trim());
    let words = plain.split_whitespace().map(str::to_lowercase);
    let words = words.map(
        |word| match NUMBERS.iter().find(|(name, _)| *name == word) {
            Some((_, digits)) => (*digits).to_owned(),
            None => word,
        },
    );
    let words = words.filter(|word| !ARTICLES.contains(&word.as_str()));
    words.map(contracted).collect::<Vec<_>>().join(" ")
}

/// Signs at the edge of a word are left out, as are all in texts with a comma
/// between digits; others become blanks. Full stops go, except before a digit.
fn unpunctuated(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let number = |c: &[char]| c[0].is_ascii_digit() && c[1] == ',' && c[2].is_ascii_digit();
    let thousands = characters.windows(3).any(number);
    let mut plain = text.to_owned();
    for sign in SIGNS.chars() {
        let edge = text.contains(&format!("{sign} ")) || text.contains(&format!(" {sign}"));
        plain = plain.replace(sign, if edge || thousands { "" } else { " " });
    }
    let mut stops = 0;
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain.chars().peekable();
    while let Some(c) = rest.next() {
        let before_digit = rest.peek().is_some_and(|next| next.is_ascii_digit());
        if c == '.' && !before_digit && stops < STOPS {
            stops += 1;
        } else {
            out.push(c);
        }
    }
    out
}

fn contracted(word: String) -> String {
    // So the official table has it.
    if word == "somebody'd" {
        return "somebodyd".into();
    }
    let missing_one = |form: &&str| {
        let mut places = form.match_indices('\'').map(|(at, _)| at);
        places.any(|at| {
            word.len() + 1 == form.len()
                && word.get(..at) == form.get(..at)
                && word.get(at..) == form.get(at + 1..)
        })
    };
    match CONTRACTIONS.split_whitespace().find(missing_one) {
        Some(form) => form.to_owned(),
        None => word,
    }
}

/// The answer in what a model wrote: up to where it goes on with a question of
/// its own, or with a second answer (`postprocess_vqa_generation` of
/// OpenFlamingo).
pub fn said_answer(text: &str) -> &str {
    let ends = ["Question", "Answer", "Short"];
    let end = ends.iter().filter_map(|end| text.find(end)).min();
    let text = &text[..end.unwrap_or(text.len())];
    text.split_once(", ").map_or(text, |(answer, _)| answer)
}

/// How right an answer is by those that people gave: the mean over all sets
/// that leave one of them out of `min(1, a third of those that match)`. With
/// ten people that is 0, 0.3, 0.6, 0.9 and 1 for 0, 1, 2, 3 and 4 who agree.
pub fn vqa_accuracy(answer: &str, people: &[impl AsRef<str>]) -> f64 {
    let answer = normalize_answer(answer);
    let agrees: Vec<bool> = people
        .iter()
        .map(|other| normalize_answer(other.as_ref()) == answer)
        .collect();
    let all = agrees.iter().filter(|&&agrees| agrees).count();
    let without = |agrees: &bool| ((all - usize::from(*agrees)) as f64 / 3.0).min(1.0);
    agrees.iter().map(without).sum::<f64>() / people.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::vqa_accuracy;

    #[test]
    fn one_of_ten_is_left_out_at_a_time() {
        for (agree, expected) in [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)] {
            let people: Vec<&str> = (0..10)
                .map(|i| if i < agree { "Two." } else { "3" })
                .collect();
            let found = vqa_accuracy("two", &people);
            assert!((found - expected).abs() < 1e-12, "{agree}: {found}");
        }
    }
}
