//! The line that is being written. Moves by what a person takes for a letter.

use unicode_segmentation::UnicodeSegmentation;

use super::text;

/// A text and the cursor in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Editor {
    text: String,
    /// Byte offset; always between two graphemes.
    cursor: usize,
}

impl Editor {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Replaces the text; the cursor goes to its end.
    pub fn set(&mut self, text: impl Into<String>) {
        self.text = text.into();
        self.cursor = self.text.len();
    }

    /// Takes the text away.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    /// Writes at the cursor. Controls other than line breaks are left out.
    pub fn insert(&mut self, text: &str) {
        let text = text
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .replace('\t', "    ");
        let text: String = text
            .chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect();
        self.text.insert_str(self.cursor, &text);
        self.cursor += text.len();
        // what was written may have joined with its neighbours (a combining accent)
        if let Some(at) = self
            .text
            .grapheme_indices(true)
            .map(|(at, _)| at)
            .find(|at| *at >= self.cursor)
        {
            self.cursor = at;
        } else {
            self.cursor = self.text.len();
        }
    }

    fn before(&self) -> usize {
        let before = &self.text[..self.cursor];
        before
            .grapheme_indices(true)
            .next_back()
            .map_or(0, |(at, _)| at)
    }

    fn after(&self) -> usize {
        let after = &self.text[self.cursor..];
        self.cursor + after.graphemes(true).next().map_or(0, str::len)
    }

    fn word_before(&self) -> usize {
        let before = self.text[..self.cursor].trim_end();
        before.rfind(char::is_whitespace).map_or(0, |at| {
            at + before[at..].chars().next().map_or(0, char::len_utf8)
        })
    }

    fn word_after(&self) -> usize {
        let after = &self.text[self.cursor..];
        let skipped = after.len() - after.trim_start().len();
        let end = after[skipped..].find(char::is_whitespace);
        end.map_or(self.text.len(), |at| self.cursor + skipped + at)
    }

    /// Moves one letter, or one word.
    pub fn left(&mut self, word: bool) {
        self.cursor = if word {
            self.word_before()
        } else {
            self.before()
        };
    }

    /// Moves one letter, or one word.
    pub fn right(&mut self, word: bool) {
        self.cursor = if word {
            self.word_after()
        } else {
            self.after()
        };
    }

    /// Moves to the beginning of the line.
    pub fn home(&mut self) {
        self.cursor = self.text[..self.cursor].rfind('\n').map_or(0, |at| at + 1);
    }

    /// Moves to the end of the line.
    pub fn end(&mut self) {
        let rest = self.text[self.cursor..].find('\n');
        self.cursor = rest.map_or(self.text.len(), |at| self.cursor + at);
    }

    /// Removes the letter, or the word, before the cursor.
    pub fn backspace(&mut self, word: bool) {
        let from = if word {
            self.word_before()
        } else {
            self.before()
        };
        self.text.replace_range(from..self.cursor, "");
        self.cursor = from;
    }

    /// Removes the letter after the cursor.
    pub fn delete(&mut self) {
        let to = self.after();
        self.text.replace_range(self.cursor..to, "");
    }

    /// Removes what stands before the cursor in its line.
    pub fn cut_before(&mut self) {
        let to = self.cursor;
        self.home();
        self.text.replace_range(self.cursor..to, "");
    }

    /// Removes what stands after the cursor in its line.
    pub fn cut_after(&mut self) {
        let from = self.cursor;
        self.end();
        self.text.replace_range(from..self.cursor, "");
        self.cursor = from;
    }

    /// The word that ends at the cursor.
    pub fn word(&self) -> &str {
        let before = &self.text[..self.cursor];
        before
            .rsplit(char::is_whitespace)
            .next()
            .unwrap_or_default()
    }

    /// Puts `whole` in the place of the word that ends at the cursor.
    pub fn complete(&mut self, whole: &str) {
        let from = self.cursor - self.word().len();
        self.text.replace_range(from..self.cursor, whole);
        self.cursor = from + whole.len();
    }

    /// The rows to show and the cursor's row and column in them.
    pub fn rows(&self, columns: usize) -> (Vec<String>, usize, usize) {
        // broken by letters, so that the cursor's place needs no guess
        let columns = columns.max(2);
        let (mut rows, mut wide) = (vec![String::new()], 0);
        let mut cursor = (0, 0);
        for (at, grapheme) in self.text.grapheme_indices(true) {
            let w = if grapheme == "\n" {
                0
            } else {
                text::width(grapheme)
            };
            if wide + w > columns {
                rows.push(String::new());
                wide = 0;
            }
            if at == self.cursor {
                cursor = (rows.len() - 1, wide);
            }
            if grapheme == "\n" {
                rows.push(String::new());
                wide = 0;
            } else if let Some(row) = rows.last_mut() {
                row.push_str(grapheme);
                wide += w;
            }
        }
        if self.cursor == self.text.len() {
            if wide >= columns {
                rows.push(String::new());
                wide = 0;
            }
            cursor = (rows.len() - 1, wide);
        }
        (rows, cursor.0, cursor.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Editor {
        let mut e = Editor::default();
        e.insert(text);
        e
    }

    #[test]
    fn a_letter_of_many_code_points_is_moved_over_and_removed_as_one() {
        let mut e = with("a👩‍👩‍👧é");
        e.left(false);
        e.left(false);
        e.insert("b");
        assert_eq!(e.text(), "ab👩‍👩‍👧é");
        e.delete();
        assert_eq!(e.text(), "abé");
        e.end();
        e.backspace(false);
        assert_eq!(e.text(), "ab");
    }

    #[test]
    fn words_and_lines_are_removed_at_once() {
        let mut e = with("one two  three");
        e.backspace(true);
        assert_eq!(e.text(), "one two  ");
        e.backspace(true);
        assert_eq!(e.text(), "one ");
        e.set("first\nsecond line");
        e.left(true);
        e.cut_before();
        assert_eq!(e.text(), "first\nline");
        e.cut_after();
        assert_eq!(e.text(), "first\n");
        e.set("one two");
        e.home();
        e.right(true);
        e.insert("!");
        assert_eq!(e.text(), "one! two");
    }

    #[test]
    fn what_is_pasted_brings_no_controls() {
        assert_eq!(with("a\x1b[31m\r\nb\tc").text(), "a[31m\nb    c");
    }

    #[test]
    fn the_cursor_stands_where_the_next_letter_goes() {
        let e = with("日本語");
        assert_eq!(e.rows(4), (vec!["日本".into(), "語".into()], 1, 2));
        assert_eq!(
            with("abcd").rows(4),
            (vec!["abcd".into(), String::new()], 1, 0)
        );
        let mut e = with("ab\ncd");
        e.home();
        assert_eq!(e.rows(10), (vec!["ab".into(), "cd".into()], 1, 0));
        e.left(false);
        assert_eq!(e.rows(10), (vec!["ab".into(), "cd".into()], 0, 2));
    }

    #[test]
    fn a_word_is_completed_in_place() {
        let mut e = with("hi @bo there");
        e.left(true);
        e.left(false);
        assert_eq!(e.word(), "@bo");
        e.complete("@bob");
        assert_eq!(e.text(), "hi @bob there");
    }
}
