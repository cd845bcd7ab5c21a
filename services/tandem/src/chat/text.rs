//! Text of others made fit for a terminal: nothing that controls it, measured and wrapped by columns.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Columns that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Whether a terminal would do something else with it than show it: controls (C0, DEL, C1), line and
/// paragraph separators, and what turns the direction of the text around it.
fn controls(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{feff}')
}

/// The text with line breaks kept, tabs as spaces, and everything that controls a terminal shown as `·`.
pub fn clean(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\t', "    ");
    text.chars()
        .map(|c| if c != '\n' && controls(c) { '·' } else { c })
        .collect()
}

/// The text in one line.
pub fn one_line(text: &str) -> String {
    clean(text).replace('\n', " ⏎ ")
}

/// At most so many columns of a one-line text, with `…` where it was cut.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    for grapheme in text.graphemes(true) {
        if width(&out) + width(grapheme) >= columns {
            break;
        }
        out.push_str(grapheme);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

/// The text cut or filled with spaces to exactly so many columns.
pub fn fit(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns);
    let lacking = columns.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', lacking));
    out
}

/// The text in rows of at most so many columns, broken between words where that can be; never empty.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let mut rows = Vec::new();
    for line in text.split('\n') {
        let (mut row, mut wide) = (String::new(), 0);
        for word in line.split_word_bounds() {
            let w = width(word);
            if wide + w <= columns {
                row.push_str(word);
                wide += w;
                continue;
            }
            if word.chars().all(char::is_whitespace) {
                // the break stands for it
                rows.push(std::mem::take(&mut row));
                wide = 0;
                continue;
            }
            if w <= columns {
                rows.push(std::mem::take(&mut row).trim_end().to_owned());
                row.push_str(word);
                wide = w;
                continue;
            }
            for grapheme in word.graphemes(true) {
                let w = width(grapheme);
                if wide + w > columns {
                    rows.push(std::mem::take(&mut row));
                    wide = 0;
                }
                row.push_str(grapheme);
                wide += w;
            }
        }
        rows.push(row);
    }
    rows
}

/// The rows of a line whose tab, if it has one, parts a narrow left column from what explains it.
pub fn wrap_columns(line: &str, columns: usize) -> Vec<String> {
    const LEFT: usize = 30;
    let Some((left, right)) = line.split_once('\t') else {
        return wrap(line, columns);
    };
    if columns < LEFT * 2 {
        return wrap(&format!("{left}  {right}"), columns);
    }
    let right = wrap(right, columns - LEFT).into_iter().enumerate();
    right
        .map(|(row, text)| format!("{}{text}", fit(if row == 0 { left } else { "" }, LEFT)))
        .collect()
}

/// The words of a command's rest; what stands in double quotes is one.
pub fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_text_controls_the_terminal() {
        let evil = "a\x1b[2Jb\x07\u{9b}31mc\r\nd\u{202e}e\u{7f}\tf";
        assert_eq!(clean(evil), "a·[2Jb··31mc\nd·e·    f");
        assert_eq!(one_line("a\nb\x1b]0;x"), "a ⏎ b·]0;x");
        assert_eq!(clean("naïve 👩‍👩‍👧 日本"), "naïve 👩‍👩‍👧 日本");
    }

    #[test]
    fn rows_break_between_words_and_never_exceed_their_columns() {
        assert_eq!(wrap("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap("日本語のテキスト", 6), ["日本語", "のテキ", "スト"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("a\n\nb", 4), ["a", "", "b"]);
        assert_eq!(wrap("", 4), [""]);
        for columns in 2..30 {
            let text = "So it goes: naïve 👩‍👩‍👧 日本語テキスト and averyveryverylongword, see?";
            assert!(
                wrap(text, columns).iter().all(|r| width(r) <= columns),
                "{columns}"
            );
        }
    }

    #[test]
    fn a_cut_text_says_so_and_a_wide_letter_is_not_halved() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello!", 5), "hell…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(fit("日本語", 4), "日… ");
        assert_eq!(fit("ab", 4), "ab  ");
    }

    #[test]
    fn an_explanation_stays_in_its_column() {
        let rows = wrap_columns("/a\tone two three four five six seven", 60);
        assert_eq!(rows.len(), 2);
        assert!(rows[0].starts_with("/a      ") && rows[1].starts_with("        "));
        assert!(rows.iter().all(|r| width(r) <= 60));
        assert_eq!(wrap_columns("/a\tone", 20), ["/a  one"]);
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words(r#"busy "in a meeting""#), ["busy", "in a meeting"]);
        assert_eq!(words(r#" a  "" b"#), ["a", "", "b"]);
    }
}
