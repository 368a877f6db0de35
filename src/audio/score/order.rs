//! The order in which measures are played: repeats, endings, and jumps.

/// Measures played at most. Repeats may ask for any number of them.
const MOST: usize = 100_000;

/// What a measure says of the order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Marks {
    /// A repeat begins here.
    pub forward: bool,
    /// A repeat ends here, which is played so many times in all.
    pub backward: Option<u32>,
    /// The times that it is played in, where it is in an ending; else none.
    pub endings: Vec<u32>,
    pub segno: bool,
    pub coda: bool,
    pub to_coda: bool,
    pub fine: bool,
    pub da_capo: bool,
    pub dal_segno: bool,
}

/// The measures as they are played.
///
/// A jump (da capo, dal segno) is taken once, after the repeats that end where it stands; after it no repeat is played, the last
/// of several endings is, and "fine" and "to coda" count.
pub(super) fn order(marks: &[Marks]) -> Result<Vec<usize>, String> {
    let find = |is: fn(&Marks) -> bool| marks.iter().position(is);
    let (segno, coda) = (find(|m| m.segno), find(|m| m.coda));
    let last_of = last_endings(marks);
    let mut order = Vec::with_capacity(marks.len());
    let (mut at, mut start, mut time) = (0, 0, 1);
    let (mut jumped, mut in_coda) = (false, false);
    while let Some(mark) = marks.get(at) {
        let after_endings = at > 0 && !marks[at - 1].endings.is_empty() && mark.endings.is_empty();
        if start != at && (mark.forward || after_endings) {
            (start, time) = (at, 1);
        }
        let now = if jumped { last_of[at] } else { time };
        if !mark.endings.is_empty() && !mark.endings.contains(&now) {
            at += 1;
            continue;
        }
        order.push(at);
        if order.len() > MOST {
            return Err(format!("repeats make more than {MOST} measures of it: are they what was meant?"));
        }
        if jumped && mark.fine {
            break;
        }
        if let (true, false, true, Some(coda)) = (jumped, in_coda, mark.to_coda, coda) {
            (at, in_coda) = (coda, true);
            continue;
        }
        if let (Some(times), false) = (mark.backward, jumped) {
            if time < times.max(last_of[at]) {
                (at, time) = (start, time + 1);
                continue;
            }
            (start, time) = (at + 1, 1);
        }
        let to = if mark.da_capo { Some(0) } else { segno.filter(|_| mark.dal_segno) };
        if let (Some(to), false) = (to, jumped) {
            (at, start, time, jumped) = (to, to, 1, true);
            continue;
        }
        at += 1;
    }
    Ok(order)
}

/// Of each measure the last time of the endings that it stands among, 0 where it is in none.
fn last_endings(marks: &[Marks]) -> Vec<u32> {
    let mut last = Vec::with_capacity(marks.len());
    for group in marks.chunk_by(|a, b| a.endings.is_empty() == b.endings.is_empty()) {
        let most = group.iter().flat_map(|mark| &mark.endings).max().copied().unwrap_or(0);
        last.resize(last.len() + group.len(), most);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures as words: `|:` and `:|` repeats, `:|3` three times, `1` `2` endings, `S` segno, `O` coda, `T` to coda, `F` fine,
    /// `DC`, `DS`.
    fn played(measures: &[&str]) -> Vec<usize> {
        let mark = |text: &&str| {
            let mut mark = Marks::default();
            for word in text.split(' ') {
                match word {
                    "|:" => mark.forward = true,
                    ":|" => mark.backward = Some(2),
                    ":|3" => mark.backward = Some(3),
                    "S" => mark.segno = true,
                    "O" => mark.coda = true,
                    "T" => mark.to_coda = true,
                    "F" => mark.fine = true,
                    "DC" => mark.da_capo = true,
                    "DS" => mark.dal_segno = true,
                    number => mark.endings.extend(number.parse::<u32>()),
                }
            }
            mark
        };
        order(&measures.iter().map(mark).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn repeats_and_endings_are_played() {
        assert_eq!(played(&["", "", ""]), [0, 1, 2]);
        assert_eq!(played(&["", ":|", ""]), [0, 1, 0, 1, 2]);
        assert_eq!(played(&["", "|:", ":|3", ":|"]), [0, 1, 2, 1, 2, 1, 2, 3, 3]);
        assert_eq!(played(&["|:", "1 :|", "2", ""]), [0, 1, 0, 2, 3]);
        // An ending of two measures, one for two times, one without a bracket for the last.
        assert_eq!(played(&["", "1", "1 :|", "2", "2"]), [0, 1, 2, 0, 3, 4]);
        assert_eq!(played(&["", "1 2 :|", "3"]), [0, 1, 0, 1, 0, 2]);
        assert_eq!(played(&["", "1 :|", ""]), [0, 1, 0, 2]);
        // A repeat after endings begins after them.
        assert_eq!(played(&["", "1 :|", "2", "", ":|"]), [0, 1, 0, 2, 3, 4, 3, 4]);
        assert_eq!(played(&["", "1 :|", "2 :|", "|:", ":|"]), [0, 1, 0, 2, 3, 4, 3, 4]);
    }

    #[test]
    fn jumps_are_taken_once_and_without_repeats() {
        assert_eq!(played(&["", "F", "", "DC"]), [0, 1, 2, 3, 0, 1]);
        assert_eq!(played(&["", "S", "", "DS"]), [0, 1, 2, 3, 1, 2, 3]);
        assert_eq!(played(&["", "S", "T", "DS", "O"]), [0, 1, 2, 3, 1, 2, 4]);
        assert_eq!(played(&["|:", ":|", "F", "DC"]), [0, 1, 0, 1, 2, 3, 0, 1, 2]);
        assert_eq!(played(&["", "1 :|", "2 F", "DC"]), [0, 1, 0, 2, 3, 0, 2]);
        assert_eq!(played(&["", "DC :|"]), [0, 1, 0, 1, 0, 1]);
        // Signs that lead nowhere, or in a circle.
        assert_eq!(played(&["DS", "T", "F"]), [0, 1, 2]);
        assert_eq!(played(&["O", "T DC"]), [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn repeats_without_an_end_are_refused() {
        let endless = Marks { backward: Some(u32::MAX), ..Marks::default() };
        assert!(order(&[endless]).unwrap_err().contains("more than 100000 measures"));
    }
}
