use super::trial::{Trial, Verdict};
use super::*;
use crate::board::Known;
use crate::board::mailbox::WAITING_MAX;
use crate::board::settings::Change;
use serde_json::Value as Json;

use crate::config::{Config, Orientation};

fn before() -> Settings {
    Settings::of(&Config::default())
}

fn change(yaml: &str) -> Change {
    let Json::Object(object) = serde_yaml::from_str(yaml).unwrap() else { panic!("{yaml}") };
    Change::from_json(&object).unwrap()
}

fn with(yaml: &str) -> Settings {
    change(yaml).applied_to(&before())
}

/// Everybody asks, and the camera is one that refuses some settings. Gives the answers, what is in force, and the attempts it
/// took; whoever is to be asked again is, in a trial of its own.
fn settle(
    changes: &[&str],
    refuses: impl Fn(&Settings) -> bool,
) -> (Vec<Result<Settings, ChangeError>>, Settings, usize) {
    let mailbox = Mailbox::default();
    let answers: Vec<_> = changes.iter().map(|yaml| mailbox.change(change(yaml)).unwrap()).collect();
    let (mut in_force, mut attempts) = (before(), 0);
    while mailbox.merged(&in_force).is_some() {
        let mut trial = Trial::new(in_force.clone(), mailbox.take_changes());
        loop {
            in_force = trial.settings().clone();
            attempts += 1;
            let result = if refuses(&in_force) { Err(format!("not {}", in_force.resolution.size())) } else { Ok(()) };
            let works = result.is_ok();
            match trial.verdict(result) {
                Verdict::Try(next) => trial = next,
                Verdict::Settled(again, answers) => {
                    answers.send();
                    assert!(works, "{in_force:?} is in force and does not work");
                    mailbox.put_back(again);
                    break;
                }
                Verdict::NoCamera(..) => panic!("it worked before"),
            }
        }
    }
    assert!(mailbox.is_empty());
    let answers = answers.into_iter().map(|mut answer| answer.result.try_recv().expect("no answer")).collect();
    (answers, in_force, attempts)
}

fn is_refused(answer: &Result<Settings, ChangeError>) -> bool {
    matches!(answer, Err(ChangeError::Failed(_)))
}

const SMALL: &str = "resolution: 320x240";
const BAD: &str = "resolution: 8000x8000";

fn fps_is_7(settings: &Settings) -> bool {
    settings.frame_rate == with("frame_rate: 7").frame_rate
}

fn no_8000(settings: &Settings) -> bool {
    settings.resolution.size().width == 8000
}

#[test]
fn changes_are_merged_key_by_key_and_the_later_wins() {
    let changes = ["{frame_rate: 15, quality: 50}", SMALL, "frame_rate: 20", "orientation: rotate-180", "{}"];
    let (answers, in_force, attempts) = settle(&changes, |_| false);
    let expected = with("{frame_rate: 20, quality: 50, resolution: 320x240, orientation: rotate-180}");
    assert_eq!(attempts, 1);
    assert_eq!(in_force, expected);
    assert!(answers.iter().all(|answer| *answer == Ok(expected.clone())), "{answers:?}");
}

#[test]
fn only_whose_key_is_refused_is_refused() {
    // One alone: tried, and back.
    let (answers, in_force, attempts) = settle(&[BAD], no_8000);
    assert!(is_refused(&answers[0]));
    assert_eq!((in_force, attempts), (before(), 2));

    for position in 0..3 {
        let mut changes = vec!["frame_rate: 15", "{orientation: flip-horizontal, quality: 40}"];
        changes.insert(position, BAD);
        let (answers, in_force, attempts) = settle(&changes, no_8000);
        let expected = with("{frame_rate: 15, orientation: flip-horizontal, quality: 40}");
        assert_eq!(in_force, expected);
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(is_refused(answer), index == position, "{index} of {changes:?}");
        }
        assert_eq!(*answers.last().unwrap(), if position == 2 { answers[2].clone() } else { Ok(expected) });
        assert!(attempts <= 5, "{attempts} attempts for {changes:?}");
    }
}

#[test]
fn a_change_is_made_as_a_whole_or_not_at_all() {
    let (answers, in_force, _) = settle(&["frame_rate: 15", "{resolution: 8000x8000, frame_rate: 20}"], no_8000);
    assert!(is_refused(&answers[1]) && answers[0].is_ok());
    assert_eq!(in_force, with("frame_rate: 15"), "what the refused one had overruled holds after all");
}

#[test]
fn who_was_overruled_by_a_refused_one_gets_its_own() {
    let (answers, in_force, attempts) = settle(&[SMALL, BAD, "frame_rate: 15"], no_8000);
    assert_eq!([0, 1, 2].map(|index| is_refused(&answers[index])), [false, true, false]);
    assert_eq!(in_force, with("{resolution: 320x240, frame_rate: 15}"));
    assert_eq!(answers[0], Ok(in_force));
    assert!(attempts <= 4, "{attempts}");

    // Who wanted the same is refused with it, at no further cost.
    let changes: Vec<&str> = std::iter::repeat_n(BAD, 30).collect();
    let (answers, in_force, attempts) = settle(&changes, no_8000);
    assert!(answers.iter().all(is_refused) && in_force == before() && attempts == 2, "{attempts}");
}

#[test]
fn several_are_refused_each_for_itself_and_in_company() {
    let changes = [BAD, "frame_rate: 7", "orientation: rotate-90", "quality: 12"];
    let refuses = |settings: &Settings| no_8000(settings) || fps_is_7(settings);
    let (answers, in_force, attempts) = settle(&changes, refuses);
    assert_eq!(answers.iter().map(is_refused).collect::<Vec<_>>(), [true, true, false, false]);
    assert_eq!(in_force, with("{orientation: rotate-90, quality: 12}"));
    assert!(attempts <= 6, "{attempts}");

    // Each alone would do: the later of the two gives way.
    let refuses = |settings: &Settings| settings.resolution.size().width == 320 && fps_is_7(settings);
    let (answers, in_force, attempts) = settle(&[SMALL, "frame_rate: 7"], refuses);
    assert!(answers[0].is_ok() && is_refused(&answers[1]));
    assert_eq!((in_force, attempts), (with(SMALL), 2));

    // Everything is: back to what was.
    let (answers, in_force, _) = settle(&changes, |settings| *settings != before());
    assert!(answers.iter().all(is_refused) && in_force == before());
}

/// Every combination of three changes and of what the camera refuses.
#[test]
fn nobody_waits_for_ever_and_what_stays_works() {
    let changes = [
        "{}",
        SMALL,
        BAD,
        "frame_rate: 7",
        "{resolution: 8000x8000, quality: 9}",
        "quality: 9",
        "{orientation: rotate-90, frame_rate: 7}",
    ];
    let refusals: [&dyn Fn(&Settings) -> bool; 4] = [
        &no_8000,
        &fps_is_7,
        &|settings| settings.quality.get() == 9 && settings.orientation != Orientation::Rotate90,
        &|settings| *settings != before(),
    ];
    for first in changes {
        for second in changes {
            for third in changes {
                for refuses in refusals {
                    let (answers, in_force, attempts) = settle(&[first, second, third], refuses);
                    assert!(attempts <= 12, "{attempts} for {first}, {second}, {third}");
                    for answer in answers.into_iter().flatten() {
                        assert!(!refuses(&answer), "{answer:?} was said to be in force");
                    }
                    assert!(!refuses(&in_force));
                }
            }
        }
    }
}

#[test]
fn without_a_camera_changes_wait_and_are_given_up_only_for_what_worked() {
    let mailbox = Mailbox::default();
    let mut first = mailbox.change(change(BAD)).unwrap();
    let (mut trial, answers) = Trial::without_camera(before(), mailbox.take_changes());
    answers.send();
    assert_eq!(first.result.try_recv().unwrap(), Ok(with(BAD)));
    let mut second = mailbox.change(change("quality: 5")).unwrap();
    trial.add(mailbox.take_changes()).send();
    let both = with("{resolution: 8000x8000, quality: 5}");
    assert_eq!(second.result.try_recv().unwrap(), Ok(both.clone()));
    // Still no camera: neither with them nor without.
    for _ in 0..3 {
        assert_eq!(*trial.settings(), both);
        let Verdict::Try(back) = trial.verdict(Err("gone".to_owned())) else { panic!() };
        assert_eq!(*back.settings(), before());
        let Verdict::NoCamera(waits, _) = back.verdict(Err("gone".to_owned())) else { panic!() };
        trial = waits;
    }
    // It comes, and cannot do it.
    let Verdict::Try(back) = trial.verdict(Err("too large".to_owned())) else { panic!() };
    assert_eq!(*back.settings(), before());
    assert!(matches!(back.verdict(Ok(())), Verdict::Settled(again, _) if again.is_empty()));
}

#[test]
fn a_camera_that_goes_while_changes_are_tried_refuses_nobody() {
    let mailbox = Mailbox::default();
    let mut answers = [SMALL, "frame_rate: 7"].map(|yaml| mailbox.change(change(yaml)).unwrap());
    let mut trial = Trial::new(before(), mailbox.take_changes());
    let trial = loop {
        match trial.verdict(Err("gone".to_owned())) {
            Verdict::Try(next) => trial = next,
            Verdict::NoCamera(trial, answers) => {
                answers.send();
                break trial;
            }
            Verdict::Settled(..) => panic!(),
        }
    };
    let wanted = with("{resolution: 320x240, frame_rate: 7}");
    assert_eq!(*trial.settings(), wanted);
    for answer in &mut answers {
        assert_eq!(answer.result.try_recv().unwrap(), Ok(wanted.clone()));
    }
}

#[test]
fn so_many_wait_and_no_more() {
    let mailbox = Mailbox::default();
    assert!(mailbox.is_empty());
    let mut answers: Vec<_> = (0..WAITING_MAX).map(|_| mailbox.change(change("quality: 5")).unwrap()).collect();
    assert_eq!(mailbox.change(change("quality: 6")).unwrap_err(), ChangeError::Crowded);
    // Who has gone makes room.
    answers.pop();
    answers.push(mailbox.change(change("quality: 6")).unwrap());
    assert!(!mailbox.is_empty());
    // Controls have places of their own.
    let reset = || mailbox.change_controls(ControlChange::Reset);
    let _controls: Vec<_> = (0..WAITING_MAX).map(|_| reset().unwrap()).collect();
    assert_eq!(reset().unwrap_err(), ChangeError::Crowded);
    assert_eq!(mailbox.take_changes().len(), WAITING_MAX);
    assert!(!mailbox.is_empty(), "controls wait");
    assert_eq!(std::iter::from_fn(|| mailbox.next_controls()).count(), WAITING_MAX);
    assert!(mailbox.is_empty());
    mailbox.read_controls();
    mailbox.read_controls();
    assert!(!mailbox.is_empty() && mailbox.take_read_controls() && !mailbox.take_read_controls() && mailbox.is_empty());
}

#[test]
fn openings_keep_apart_by_what_they_cost() {
    let start = Instant::now();
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    let mut pace = Pace::default();
    assert!(pace.is_due(start), "the first need not wait");
    let costs = [(10, 1, 1000), (250, 1, 1000), (700, 1, 1400), (60_000, 1, 2000), (30, 4, 4000), (4000, 4, 8000)];
    for (took, openings, pause) in costs {
        for attempt in 0..openings {
            pace.interrupt(at(5 * attempt));
        }
        assert!(!pace.is_due(at(1_000_000)), "not before there are pictures again");
        pace.resume(at(took));
        assert!(!pace.is_due(at(took + pause - 1)) && pace.is_due(at(took + pause)), "{took}");
        pace.resume(at(1_000_000));
        assert!(pace.is_due(at(took + pause)), "what was not interrupted does not go on");
    }
}

#[test]
fn who_was_overruled_is_not_overruled_for_ever() {
    let mailbox = Mailbox::default();
    let refuse = |trial: Trial| match trial.verdict(Err("no".to_owned())) {
        Verdict::Try(back) => back.verdict(Ok(())),
        other => other,
    };
    let mut first = mailbox.change(change(SMALL)).unwrap();
    let _bad = mailbox.change(change(BAD)).unwrap();
    let Verdict::Settled(again, answers) = refuse(Trial::new(before(), mailbox.take_changes())) else { panic!() };
    answers.send();
    // Somebody else wants what the camera refuses, before the first one's turn has come.
    let _bad = mailbox.change(change(BAD)).unwrap();
    mailbox.put_back(again);
    assert_eq!(mailbox.merged(&before()), Some(with(SMALL)));
    let trial = Trial::new(before(), mailbox.take_changes());
    let Verdict::Settled(again, answers) = trial.verdict(Ok(())) else { panic!() };
    answers.send();
    assert!(again.is_empty());
    assert_eq!(first.result.try_recv().unwrap(), Ok(with(SMALL)));
    assert_eq!(mailbox.take_changes().len(), 1);
}

#[test]
fn who_gives_up_is_told_whether_the_change_is_being_tried() {
    let mailbox = Mailbox::default();
    let [taken, left] = ["quality: 5", "quality: 6"].map(|yaml| {
        let answer = mailbox.change(change(yaml)).unwrap();
        (answer, if yaml.ends_with('5') { mailbox.take_changes() } else { Vec::new() })
    });
    assert_eq!(taken.0.given_up(), ChangeError::StillTried);
    assert_eq!(left.0.given_up(), ChangeError::Silent);
    assert!(mailbox.merged(&before()).is_none() && mailbox.take_changes().is_empty() && mailbox.is_empty());
}

#[test]
fn controls_are_known_while_there_is_no_camera_to_ask() {
    let known = Known::default();
    assert!(known.get().is_none() && known.fresh().is_none() && !known.is_live());
    known.opened();
    known.tell(Arc::default());
    assert!(known.is_live() && known.fresh().is_some());
    known.set_live(false);
    known.opened();
    assert!(known.fresh().is_none() && known.get().is_some(), "another opening may have changed them");
    known.forget();
    assert!(known.get().is_none());
}

fn ask(board: &Board, yaml: &str) -> crate::board::mailbox::Answer<Settings> {
    board.mailbox.change(change(yaml)).unwrap()
}

#[test]
fn what_needs_no_opening_is_settled_at_once() {
    let board = Board::new(&Config::default(), None);
    let (mut wanted, mut requests) = (Wanted::new(&Config::default()), Requests::default());
    let mut answer = ask(&board, "quality: 33");
    requests.take_up(&board.mailbox, wanted.settings(), Instant::now());
    let mut set = Vec::new();
    let reopen = requests.settle_running(&mut wanted, &board, |quality| {
        set.push(quality);
        Ok(())
    });
    assert!(!reopen && requests.to_try().is_none());
    assert_eq!(set, [33]);
    assert_eq!(answer.result.try_recv().unwrap(), Ok(with("quality: 33")));
    assert_eq!((wanted.settings(), &board.settings()), (&with("quality: 33"), &with("quality: 33")));
    // What the encoder refuses is taken back.
    let mut answer = ask(&board, "quality: 44");
    requests.take_up(&board.mailbox, wanted.settings(), Instant::now());
    let refuse = |quality| if quality == 44 { Err("no".to_owned()) } else { Ok(()) };
    assert!(!requests.settle_running(&mut wanted, &board, refuse));
    assert!(is_refused(&answer.result.try_recv().unwrap()));
    assert_eq!(wanted.settings(), &with("quality: 33"));
}

#[test]
fn what_was_asked_for_is_kept_over_reopenings_until_there_is_a_camera() {
    let board = Board::new(&Config::default(), None);
    let (mut wanted, mut requests) = (Wanted::new(&Config::default()), Requests::default());
    let mut answers = [ask(&board, SMALL), ask(&board, "quality: 33")];
    requests.take_up(&board.mailbox, wanted.settings(), Instant::now());
    assert!(requests.settle_running(&mut wanted, &board, |_| panic!("all at once, by opening the camera anew")));
    assert!(answers.iter_mut().all(|answer| answer.result.try_recv().is_err()), "not settled yet");
    let both = Settings { quality: with("quality: 33").quality, ..with(SMALL) };
    assert_eq!(requests.to_try(), Some(&both));
    // It is pulled out meanwhile: no change is to blame, whatever is tried.
    let mut attempts = 0;
    loop {
        wanted.put_in_force(requests.to_try().unwrap().clone());
        attempts += 1;
        match requests.attempted(Err("unplugged".to_owned()), &mut wanted, &board) {
            Attempt::Again => {}
            Attempt::NoCamera => break,
            Attempt::Settled => panic!("nothing has been settled"),
        }
    }
    assert!(attempts <= 4, "{attempts}");
    assert!(answers.iter_mut().all(|answer| answer.result.try_recv().unwrap() == Ok(both.clone())));
    // One more while it is away.
    let mut late = ask(&board, "frame_rate: 7");
    requests.handle_without_camera(&mut wanted, &board);
    let all = Settings { frame_rate: with("frame_rate: 7").frame_rate, ..both };
    assert_eq!(late.result.try_recv().unwrap(), Ok(all.clone()));
    assert_eq!((wanted.settings(), &board.settings(), requests.to_try()), (&all, &all, Some(&all)));
    assert_eq!(requests.attempted(Ok(()), &mut wanted, &board), Attempt::Settled);
    assert_eq!((wanted.settings(), requests.to_try()), (&all, None));
}
