//! Which comfy.lock was live on this machine, and when: the audit log says so.

use crate::desired::InstancePaths;
use crate::host::fs;

/// What the audit log says of an apply that reached its last step. Lines of an older comfy lack
/// parts of it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct AppliedDetail {
    pub changes: usize,
    pub steps: usize,
    /// The SHA-256 of comfy.lock.
    pub lock: String,
    /// `apply`, `back` or `gc`.
    pub task: String,
    /// The generation that is live afterwards.
    pub generation: Option<String>,
}

/// The task of a [`AppliedDetail`] that made an earlier generation live again.
pub(crate) const BACK: &str = "back";
/// The task that made a comfy.lock live.
pub(crate) const APPLY: &str = "apply";

#[derive(serde::Deserialize)]
struct Line {
    time: String,
    detail: AppliedDetail,
}

/// A time during which one comfy.lock was live.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LivePeriod {
    /// The SHA-256 of comfy.lock.
    #[serde(skip)]
    pub lock: String,
    /// RFC 3339.
    pub since: String,
    /// `None`: still.
    pub until: Option<String>,
}

impl LivePeriod {
    /// Returns whether it had not ended at that time, in seconds since 1970.
    pub(crate) fn lasted_until(&self, seconds: i64) -> bool {
        let end = self.until.as_deref();
        let end = end.map(|t| chrono::DateTime::parse_from_rfc3339(t).map(|t| t.timestamp()));
        !matches!(end, Some(Ok(end)) if end < seconds)
    }
}

/// Reads the periods, oldest first; none where nothing was applied here.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn live_periods(paths: &InstancePaths) -> std::io::Result<Vec<LivePeriod>> {
    let text = fs::absent_as_none(std::fs::read_to_string(paths.audit_log()))?;
    Ok(periods_of(&text.unwrap_or_default()))
}

fn periods_of(log: &str) -> Vec<LivePeriod> {
    let (mut periods, mut generations) = (Vec::<LivePeriod>::new(), Vec::<(String, String)>::new());
    // Most lines are of single steps.
    for line in log.lines().filter(|l| l.contains("\"event\":\"applied")) {
        let Ok(Line { time, detail }) = serde_json::from_str(line) else {
            continue;
        };
        let lock = match detail.task.as_str() {
            APPLY => detail.lock,
            BACK => {
                let of = |(id, _): &&(String, String)| Some(id) == detail.generation.as_ref();
                match generations.iter().rev().find(of) {
                    Some((_, lock)) => lock.clone(),
                    None => continue,
                }
            }
            _ => continue,
        };
        generations.extend(detail.generation.map(|id| (id, lock.clone())));
        if let Some(last) = periods.last_mut() {
            if last.lock == lock {
                continue;
            }
            last.until = Some(time.clone());
        }
        periods.push(LivePeriod {
            lock,
            since: time,
            until: None,
        });
    }
    periods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_live_from_its_apply_to_the_next_and_again_after_the_way_back() {
        let line = |time: u32, task: &str, lock: &str, generation: &str| {
            format!(
                "{{\"detail\":{{\"changes\":1,\"generation\":\"{generation}\",\"lock\":\"{lock}\",\"\
                 steps\":1,\"task\":\"{task}\"}},\"event\":\"applied\",\"time\":\"{time}\"}}\n"
            )
        };
        let log = [
            "{\"event\":\"step\"}\nhalf a line\n".to_string(),
            "{\"detail\":{\"changes\":1,\"steps\":1},\"event\":\"applied\",\"time\":\"0\"}\n"
                .into(),
            line(1, "apply", "a", "g1"),
            line(2, "apply", "a", "g1"),
            line(3, "apply", "b", "g2"),
            line(4, "gc", "c", "g2"),
            line(5, "back", "b", "g1"),
        ];
        let told: Vec<String> = periods_of(&log.concat())
            .iter()
            .map(|p| format!("{} {} {:?}", p.lock, p.since, p.until))
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        a 1 Some("3")
        b 3 Some("5")
        a 5 None
        "#);
    }
}
