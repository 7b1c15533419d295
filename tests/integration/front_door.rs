//! What `make` says and would do, without building anything.

use std::process::Command;

fn make(arguments: &[&str]) -> String {
    let mut make = Command::new("make");
    // As called by hand: with nothing from a make around this test.
    make.args(["-C", env!("CARGO_MANIFEST_DIR")]).args(arguments).env_remove("MAKEFLAGS").env_remove("PORT");
    let output = make.output().expect("make is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_lists_targets_and_variables() {
    let help = make(&["help"]);
    for word in ["run", "test", "ARGS", "PORT", "HOST", "SDK", "BUILDROOT_DIR", "DEVICE", "IMAGE", "PINHOLE_CACHE"] {
        assert!(help.lines().any(|line| line.split([' ', ',']).any(|other| other == word)), "{word} in {help}");
    }
}

#[test]
fn a_file_of_ones_own_wins_over_what_make_run_chooses() {
    let run = |arguments: &[&str]| {
        let recipe = make(&[&["-n", "run"], arguments].concat());
        recipe[recipe.find("exec ").expect("it runs the program")..].to_owned()
    };
    let own = run(&["ARGS=--config my.yaml"]);
    assert!(own.contains("--default camera.source=") && own.contains("--default 'http.listen=[::]:8080'"), "{own}");
    assert!(!own.contains("--set") && own.contains("--config my.yaml"), "{own}");
    // Who names a port means it.
    assert!(run(&["PORT=9000"]).contains("--set 'http.listen=[::]:9000'"));
}
