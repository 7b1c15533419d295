use super::*;

#[test]
fn plain_text_is_what_yaml_says() {
    for (text, scalar) in [
        ("", Scalar::Nothing),
        ("~", Scalar::Nothing),
        ("True", Scalar::Bool(true)),
        ("no", Scalar::Text),
        ("0", Scalar::Unsigned(0)),
        ("+5", Scalar::Unsigned(5)),
        ("-5", Scalar::Signed(-5)),
        ("0x1f", Scalar::Unsigned(31)),
        ("-0b11", Scalar::Signed(-3)),
        ("0o17", Scalar::Unsigned(15)),
        ("0x", Scalar::Text),
        ("0x-5", Scalar::Text),
        ("007", Scalar::Text),
        ("00.5", Scalar::Float(0.5)),
        (".5", Scalar::Float(0.5)),
        ("-1e3", Scalar::Float(-1000.0)),
        ("1e999", Scalar::Text),
        ("18446744073709551616", Scalar::Float(18_446_744_073_709_551_616.0)),
        ("-9223372036854775809", Scalar::Float(-9_223_372_036_854_775_808.0)),
        (".inf", Scalar::Float(f64::INFINITY)),
        ("-.Inf", Scalar::Float(f64::NEG_INFINITY)),
        ("inf", Scalar::Text),
        ("nan", Scalar::Text),
        ("+-5", Scalar::Text),
        ("-", Scalar::Text),
        ("--5", Scalar::Text),
        ("ä", Scalar::Text),
        ("1280x720", Scalar::Text),
        ("5s", Scalar::Text),
    ] {
        assert_eq!(Scalar::of(text), scalar, "{text:?}");
    }
    assert!(matches!(Scalar::of(".nan"), Scalar::Float(value) if value.is_nan()));
}

mod properties {
    use proptest::prelude::*;
    use serde_yaml::Value;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// What serde_norway reads, which writes our files.
        #[test]
        fn plain_text_is_what_other_readers_make_of_it(text in "[-+.]?[-+.0-9eExob_]{1,8}|[.~a-zA-Z]{1,5}|[-+]?0[xob][0-9a-f+-]{0,18}|[-+]?[0-9]{1,21}") {
            let Ok(Value::Sequence(list)) = serde_yaml::from_str(&format!("[{text}]")) else { return Ok(()) };
            let expected = match &list[0] {
                Value::Null => Scalar::Nothing,
                Value::Bool(value) => Scalar::Bool(*value),
                Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                    (Some(value), ..) => Scalar::Unsigned(value),
                    (None, Some(value), _) => Scalar::Signed(value),
                    (None, None, value) => Scalar::Float(value.unwrap()),
                },
                _ => Scalar::Text,
            };
            // Zero has no sign that matters.
            let is_zero = |scalar: &Scalar| matches!(scalar, Scalar::Unsigned(0) | Scalar::Signed(0));
            let got = Scalar::of(&text);
            let is_nan = |scalar: &Scalar| matches!(scalar, Scalar::Float(value) if value.is_nan());
            prop_assert!(
                got == expected || (is_zero(&got) && is_zero(&expected)) || (is_nan(&got) && is_nan(&expected)),
                "{text:?} is {got:?} here and {expected:?} elsewhere"
            );
        }
    }
}
