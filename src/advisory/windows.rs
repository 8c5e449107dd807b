//! When something was pinned, out of versions of comfy.lock in the order in which they were written.

/// A time, from its beginning to its end; RFC 3339, or seconds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct TimeSpan {
    pub from: i64,
    /// `None`: it lasts.
    pub to: Option<i64>,
}

/// One version of comfy.lock: when it was written, and until when it was the newest.
pub(crate) struct LockVersion {
    /// Its SHA-256.
    pub digest: String,
    pub span: TimeSpan,
}

/// The spans of the versions at these places, joined where one follows the other.
pub(crate) fn joined_spans(versions: &[LockVersion], at: &[usize]) -> Vec<TimeSpan> {
    let mut out: Vec<TimeSpan> = Vec::new();
    for span in at.iter().filter_map(|n| versions.get(*n)).map(|v| &v.span) {
        match out.last_mut() {
            Some(last) if last.to == Some(span.from) => last.to = span.to,
            _ => out.push(span.clone()),
        }
    }
    out
}

impl TimeSpan {
    /// `from 3 to 9 December 2024`, `since 3 December 2024`; `local` makes a date of seconds.
    pub(crate) fn text(&self, local: &dyn Fn(i64) -> chrono::NaiveDate) -> String {
        let from = local(self.from);
        let Some(to) = self.to.map(local) else {
            return format!("since {}", from.format("%-d %B %Y"));
        };
        use chrono::Datelike;
        let whole = "%-d %B %Y";
        let begins = if from == to {
            return format!("on {}", from.format(whole));
        } else if (from.year(), from.month()) == (to.year(), to.month()) {
            "%-d"
        } else if from.year() == to.year() {
            "%-d %B"
        } else {
            whole
        };
        format!("from {} to {}", from.format(begins), to.format(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_follow_each_other_are_one_and_are_told_as_people_do() {
        let day = |n: i64| n * 86_400;
        let version = |from, to: Option<i64>| LockVersion {
            digest: String::new(),
            span: TimeSpan {
                from: day(from),
                to: to.map(day),
            },
        };
        let versions = [
            version(20_060, Some(20_062)),
            version(20_062, Some(20_066)),
            version(20_066, Some(20_090)),
            version(20_090, None),
        ];
        let local = |seconds| {
            chrono::DateTime::from_timestamp(seconds, 0)
                .unwrap()
                .date_naive()
        };
        let told = |at: &[usize]| {
            let spans = joined_spans(&versions, at);
            let texts: Vec<String> = spans.iter().map(|s| s.text(&local)).collect();
            texts.join(", ")
        };
        let lines = [told(&[0, 1]), told(&[0, 2]), told(&[3]), told(&[])];
        insta::assert_snapshot!(lines.join("\n"), @"
        from 3 to 9 December 2024
        from 3 to 5 December 2024, from 9 December 2024 to 2 January 2025
        since 2 January 2025
        ");
    }
}
