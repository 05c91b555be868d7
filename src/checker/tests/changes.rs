//! Histories that are right, changed in one place: they break the promise that the change concerns.

use proptest::prelude::*;

use super::{
    model::{Act, Model, act},
    *,
};

/// What is changed in a history that is right.
#[derive(Debug, Clone, Copy)]
enum Change {
    LoseADelivery,
    RepeatADelivery,
    SwapDeliveries,
    LoseAGap,
    MiscountSkipped,
    DeliverInPause,
    GrantNothing,
    MarkEarly,
    ReadAnother,
    PublishElsewhere,
    PublishInAnotherOrder,
    LoseAStoredEvent,
    AnswerAnotherPlace,
    GiveANumberTwice,
    ForgetAnAnswer,
    StandStill,
    ResumeBehind,
}

use Change::*;

const CHANGES: [(Change, &[Guarantee]); 17] = [
    // Unless the reader asks to go on after what was lost, and the break shows there.
    (LoseADelivery, &[Guarantee::G3Reliable, Guarantee::G4Resumable]),
    (RepeatADelivery, &[Guarantee::G2Unique]),
    // Those of two epochs may have the same offsets, and hold what was not answered to be there.
    (SwapDeliveries, &[Guarantee::G1Ordered, Guarantee::G2Unique, Guarantee::G3Reliable, Guarantee::G6Published]),
    (LoseAGap, &[Guarantee::G3Reliable, Guarantee::G4Resumable]),
    (MiscountSkipped, &[Guarantee::G3Reliable]),
    (DeliverInPause, &[Guarantee::G11PauseAndCredit]),
    (GrantNothing, &[Guarantee::G11PauseAndCredit]),
    (MarkEarly, &[Guarantee::G5Marks]),
    (ReadAnother, &[Guarantee::G9NoPhantom]),
    (PublishElsewhere, &[Guarantee::G12Isolation]),
    (PublishInAnotherOrder, &[Guarantee::G8Fifo]),
    (LoseAStoredEvent, &[Guarantee::G6Published]),
    (AnswerAnotherPlace, &[Guarantee::G7Idempotent]),
    (GiveANumberTwice, &[Guarantee::G10OneHolder]),
    (ForgetAnAnswer, &[Guarantee::G13Live]),
    (StandStill, &[Guarantee::G13Live]),
    (ResumeBehind, &[Guarantee::G4Resumable]),
];

/// The places of records of a kind, and one of them.
fn pick(records: &[Record], seed: usize, wanted: impl Fn(&Op) -> bool) -> Option<usize> {
    let places: Vec<_> = (0..records.len()).filter(|place| wanted(&records[*place].op)).collect();
    (!places.is_empty()).then(|| places[seed % places.len()])
}

/// Makes the change; none if there is nothing to be changed like that.
fn change(records: &mut Vec<Record>, change: Change, seed: usize) -> Option<()> {
    match change {
        LoseADelivery | RepeatADelivery | SwapDeliveries | LoseAGap | DeliverInPause => {
            change_deliveries(records, change, seed)?;
        }
        GiveANumberTwice => give_twice(records)?,
        ForgetAnAnswer => {
            let cut = |record: &Record| matches!(&record.op, Op::Disconnected { why } if why == "cut");
            let last_line = records.iter().rposition(cut).unwrap_or(0);
            let answer = records[last_line..].iter().position(|record| matches!(record.op, Op::Reply { .. }))?;
            records.remove(last_line + answer);
        }
        PublishElsewhere => {
            // The last is sure to be read.
            let publish = records.iter_mut().rev().find_map(|record| match &mut record.op {
                Op::Publish { topic, .. } => Some(topic),
                _ => None,
            });
            *publish? = "elsewhere".into();
        }
        PublishInAnotherOrder => {
            let end = records.iter().rposition(|record| matches!(record.op, Op::Publish { .. }))?;
            let before = records[..end].iter().rposition(|record| matches!(record.op, Op::Publish { .. }))?;
            records.swap(before, end);
        }
        GrantNothing => records.iter_mut().for_each(|record| {
            if let Op::Open { credit: Some(credit), .. } | Op::Flow { credit: Some(credit), .. } = &mut record.op {
                *credit = (0, 0);
            }
        }),
        _ => {
            let place = pick(records, seed, |op| edit(&mut op.clone(), change).is_some())?;
            edit(&mut records[place].op, change)?;
        }
    }
    Some(())
}

fn change_deliveries(records: &mut Vec<Record>, change: Change, seed: usize) -> Option<()> {
    let place = pick(records, seed, |op| match change {
        LoseAGap => matches!(op, Op::Gap { .. }),
        DeliverInPause => matches!(op, Op::Flow { paused: Some(true), .. }),
        _ => matches!(op, Op::Deliver { .. }),
    })?;
    let next = (place + 1..records.len()).find(|next| matches!(records[*next].op, Op::Deliver { .. }))?;
    match change {
        RepeatADelivery => records.insert(place, records[place].clone()),
        SwapDeliveries => {
            let (one, other) = (records[place].op.clone(), records[next].op.clone());
            (records[place].op, records[next].op) = (other, one);
        }
        DeliverInPause => {
            let delivery = records.remove(next);
            // After the reply to it.
            records.insert(place + 2, delivery);
        }
        _ => drop(records.remove(place)),
    }
    Some(())
}

/// On one server: a restart begins the numbers anew.
fn give_twice(records: &mut [Record]) -> Option<()> {
    let given = |record: &Record| match record.op {
        Op::Opened { attach, head, .. } => Some((head.0, attach)),
        _ => None,
    };
    let follows = |place: &usize| {
        let before = records[..*place].iter().rev().find_map(given);
        given(&records[*place]).is_some_and(|(epoch, attach)| before == Some((epoch, attach - 1)))
    };
    let twice = (0..records.len()).find(follows)?;
    if let Op::Opened { attach, .. } = &mut records[twice].op {
        *attach -= 1;
    }
    Some(())
}

/// A change within a record; none if it is not one of that kind.
fn edit(op: &mut Op, change: Change) -> Option<()> {
    match (change, op) {
        (MiscountSkipped, Op::Deliver { skipped, .. }) => *skipped += 1,
        (MarkEarly, Op::Mark { offset, .. }) => *offset += 1,
        (ReadAnother, Op::Deliver { events, .. }) => events[0].id = "nobody's".into(),
        (LoseAStoredEvent, Op::Stored { events, .. }) => drop(events.pop()),
        (AnswerAnotherPlace, Op::Answered { outcome: Outcome::Stored { place, duplicate: true }, .. }) => place.1 += 1,
        (StandStill, Op::Stands { place: Some(place), .. }) => place.1 -= 1,
        (ResumeBehind, Op::Opened { start: (_, offset @ 1..), attach: 2.., .. }) => *offset -= 1,
        _ => return None,
    }
    Some(())
}

fn broken(records: &[Record]) -> Vec<Guarantee> {
    check(records, Options::default()).violations.iter().map(|violation| violation.guarantee).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_model_breaks_no_promise(acts in prop::collection::vec(act(), 0..80)) {
        prop_assert_eq!(broken(&Model::run(&acts)), []);
    }

    #[test]
    fn whatever_is_changed_breaks_the_promise_it_concerns(
        acts in prop::collection::vec(act(), 20..80),
        seed in any::<usize>(),
    ) {
        for (kind, promises) in CHANGES {
            let mut records = Model::run(&acts);
            if change(&mut records, kind, seed).is_some() {
                let broken = broken(&records);
                let caught = promises.iter().any(|promise| broken.contains(promise));
                prop_assert!(caught, "{:?}: {:?}", kind, broken);
            }
        }
    }
}

#[test]
fn every_change_can_be_made() {
    use Act::*;
    let serve = [Publish(3), Repeat, Serve(1), Serve(1), Mark, Serve(1), Mark, Publish(3), Conflate(1), Pause, Resume];
    let acts = [&serve[..], &[Reconnect, Credit(9), Serve(1), Publish(2), Trim(8), Serve(2), Reconnect]].concat();
    for (kind, _) in CHANGES {
        assert!(change(&mut Model::run(&acts), kind, 0).is_some(), "{kind:?}");
    }
}
