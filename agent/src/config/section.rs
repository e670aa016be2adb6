//! Typed reading of one section: given values over those of the example, with
//! every problem and every unknown key noted instead of stopping at the first.

use std::path::PathBuf;

use toml::{Table, Value};

use super::Problem;

/// Reads a file over the example.
pub(super) struct Reader<'a> {
    given: &'a Table,
    example: &'a Table,
    needed: &'a [&'static str],
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a Table, example: &'a Table, needed: &'a [&'static str]) -> Self {
        Self {
            given,
            example,
            needed,
            problems: Vec::new(),
        }
    }

    /// A section by name. One that is no table is a problem, and read as if it
    /// were not there.
    pub(super) fn section<'r>(&'r mut self, name: &'static str) -> Section<'r, 'a> {
        let given = match self.given.get(name) {
            None => None,
            Some(Value::Table(table)) => Some(table),
            Some(_) => {
                self.problem(name.to_owned(), "a table");
                None
            }
        };
        let example = self.example.get(name).and_then(Value::as_table);
        Section {
            reader: self,
            path: name.to_owned(),
            given,
            example,
        }
    }

    /// Problems, and paths of keys that the example does not have.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<String>) {
        let mut unknown = Vec::new();
        for (name, value) in self.given {
            let Some(Value::Table(known)) = self.example.get(name) else {
                unknown.push(name.clone());
                continue;
            };
            let keys = value.as_table().into_iter().flat_map(Table::keys);
            let keys = keys.filter(|key| !known.contains_key(*key));
            unknown.extend(keys.map(|key| format!("{name}.{key}")));
        }
        (self.problems, unknown)
    }

    fn problem(&mut self, key: String, expected: impl Into<String>) {
        self.problems.push(Problem {
            key,
            expected: expected.into(),
        });
    }
}

/// One section, or one entry of an array of tables.
pub(super) struct Section<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: String,
    given: Option<&'a Table>,
    example: Option<&'a Table>,
}

impl<'a> Section<'_, 'a> {
    /// The value of a key, or its default; notes a needed one that is missing.
    fn value(&mut self, key: &str, expected: &str) -> Option<&'a Value> {
        if let Some(value) = self.given.and_then(|given| given.get(key)) {
            return Some(value);
        }
        let path = self.join(key);
        let default = self.example.and_then(|example| example.get(key));
        if default.is_none() || self.reader.needed.contains(&path.as_str()) {
            self.reader.problem(path, format!("{expected} (needed)"));
            return None;
        }
        default
    }

    fn join(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn wrong<T>(&mut self, key: &str, expected: impl Into<String>) -> Option<T> {
        let path = self.join(key);
        self.reader.problem(path, expected);
        None
    }

    /// An integer within bounds.
    pub(super) fn integer(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let expected = format!("an integer from {min} to {max}");
        let value = self.value(key, &expected)?.as_integer();
        match value.and_then(|value| u64::try_from(value).ok()) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            _ => self.wrong(key, expected),
        }
    }

    /// Text in a form of its own.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key, expected)?;
        match value.as_str().and_then(parse) {
            Some(parsed) => Some(parsed),
            None => self.wrong(key, expected),
        }
    }

    /// A path that is not empty.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.parsed(key, "a path", |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        })
    }

    /// Text, where "" means none.
    #[expect(clippy::option_option, reason = "a problem is not the same as none")]
    pub(super) fn optional_text(&mut self, key: &str) -> Option<Option<String>> {
        self.parsed(key, "text", |text| {
            Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
        })
    }

    /// A list of texts in a form of their own.
    pub(super) fn texts<T>(
        &mut self,
        key: &str,
        expected: &str,
        count_min: usize,
        count_max: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let expected = format!("a list of {count_min} to {count_max}: {expected}");
        let value = self.value(key, &expected)?;
        let parsed = value
            .as_array()
            .filter(|list| (count_min..=count_max).contains(&list.len()))
            .and_then(|list| {
                let parsed = list.iter().map(|entry| entry.as_str().and_then(&parse));
                parsed.collect::<Option<Vec<T>>>()
            });
        match parsed {
            Some(parsed) => Some(parsed),
            None => self.wrong(key, expected),
        }
    }

    /// A list of texts in a form of their own; empty where it is left out.
    pub(super) fn optional_texts<T>(
        &mut self,
        key: &str,
        expected: &str,
        count_max: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        if self.given.is_none_or(|given| !given.contains_key(key)) {
            return Some(Vec::new());
        }
        self.texts(key, expected, 0, count_max, parse)
    }

    /// An array of tables, each read as a section without defaults.
    pub(super) fn tables<T>(
        &mut self,
        key: &str,
        count_max: usize,
        read: impl Fn(&mut Section<'_, 'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let expected = format!("a list of at most {count_max} tables");
        let value = self.value(key, &expected)?;
        let Some(list) = value.as_array().filter(|list| list.len() <= count_max) else {
            return self.wrong(key, expected);
        };
        let mut entries = Vec::with_capacity(list.len());
        for (index, entry) in list.iter().enumerate() {
            let path = self.join(&format!("{key}[{index}]"));
            let Some(table) = entry.as_table() else {
                return self.wrong(key, expected);
            };
            let mut section = Section {
                reader: &mut *self.reader,
                path,
                given: Some(table),
                example: None,
            };
            entries.push(read(&mut section)?);
        }
        Some(entries)
    }
}
