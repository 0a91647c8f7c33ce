//! Lists that stay short: a loop makes the same outputs in every turn, and a report is kept in
//! ComfyUI's history.

use std::collections::{BTreeMap, BTreeSet};

use super::Kept;
use crate::bytes::Bytes;
use crate::reason::{Note, Why};

/// Rows of a list.
const MOST: usize = 50;

/// Each name once, as `29 x #3 Mix` where it came more often. What is too much is a number.
pub(super) fn names(all: Vec<String>) -> Vec<String> {
    let mut counted: Vec<(String, usize)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for name in all {
        match places.get(&name) {
            Some(place) => counted[*place].1 += 1,
            None => {
                places.insert(name.clone(), counted.len());
                counted.push((name, 1));
            }
        }
    }
    let more: usize = counted.iter().skip(MOST).map(|(_, count)| count).sum();
    let mut shown: Vec<String> =
        counted.into_iter().take(MOST).map(|(name, count)| times(count, &name)).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown
}

/// Rows with the same name and reason are one. Of what is too much, the largest stay, and a note
/// says how many others there are.
pub(super) fn kept(all: Vec<Kept>) -> (Vec<Kept>, Option<Why<Note>>) {
    let mut rows: Vec<(Kept, usize)> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    for kept in all {
        let place = (kept.what.clone(), kept.because.to_string());
        match places.get(&place).map(|place| &mut rows[*place]) {
            Some((first, count)) => {
                first.bytes = first.bytes.zip(kept.bytes).map(|(one, other)| one.plus(other));
                *count += 1;
            }
            None => {
                places.insert(place, rows.len());
                rows.push((kept, 1));
            }
        }
    }
    let mut by_size: Vec<usize> = (0..rows.len()).collect();
    // What is unknown may be large.
    by_size.sort_by_key(|row| std::cmp::Reverse(rows[*row].0.bytes.unwrap_or(Bytes(u64::MAX))));
    let left_out: BTreeSet<usize> = by_size.into_iter().skip(MOST).collect();
    let (mut shown, mut count, mut bytes) = (Vec::new(), 0_usize, Bytes::ZERO);
    for (number, (mut kept, times_seen)) in rows.into_iter().enumerate() {
        if left_out.contains(&number) {
            count += times_seen;
            bytes = bytes.plus(kept.bytes.unwrap_or(Bytes::ZERO));
        } else {
            kept.what = times(times_seen, &kept.what);
            shown.push(kept);
        }
    }
    (shown, (count > 0).then_some(Why(Note::NotListed { count: count as u64, bytes })))
}

/// The name, with how often it came.
pub(super) fn times(count: usize, name: &str) -> String {
    if count == 1 { name.to_owned() } else { format!("{count} x {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Keep;

    #[test]
    fn equal_names_are_counted_and_many_are_a_number() {
        let turns = ["#3 Mix", "#4 Scale", "#3 Mix"].map(str::to_owned);
        assert_eq!(names(turns.to_vec()), ["2 x #3 Mix", "#4 Scale"]);
        let many: Vec<String> = (0..60).map(|number| format!("#{number}")).collect();
        let shown = names(many);
        assert_eq!(shown.len(), MOST + 1);
        assert_eq!(shown[MOST], "10 more");
    }

    #[test]
    fn equal_rows_are_added_up_and_the_largest_stay() {
        let row = |what: &str, bytes, because| Kept { what: what.to_owned(), bytes, because };
        let (rows, note) = kept(vec![
            row("#3 Mix", Some(Bytes(5)), Keep::Connected),
            row("#3 Mix", Some(Bytes(7)), Keep::Connected),
            row("#3 Mix", Some(Bytes(9)), Keep::OutputNode),
            row("#4", None, Keep::Connected),
            row("#4", Some(Bytes(1)), Keep::Connected),
        ]);
        let seen: Vec<_> = rows.iter().map(|row| (row.what.as_str(), row.bytes)).collect();
        let expected =
            [("2 x #3 Mix", Some(Bytes(12))), ("#3 Mix", Some(Bytes(9))), ("2 x #4", None)];
        assert_eq!((seen.as_slice(), note), (expected.as_slice(), None));

        let many = (0..60).map(|size| row(&format!("#{size}"), Some(Bytes(size)), Keep::Connected));
        let (rows, note) = kept(many.collect());
        assert_eq!(rows.len(), MOST);
        assert_eq!(rows[0].what, "#10");
        assert_eq!(note, Some(Why(Note::NotListed { count: 10, bytes: Bytes(45) })));
    }
}
