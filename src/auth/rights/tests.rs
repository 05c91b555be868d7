use serde_json::json;

use super::*;

#[test]
fn a_claim_has_a_value_or_has_it_in_its_list_or_in_its_fields() {
    let claims = json!({
        "role": "editor", "groups": ["a", "b"], "admin": true, "level": 3,
        "realm": {"roles": ["x"]}, "a.b": "dotted",
    });
    for held in ["role=editor", "groups=b", "admin=true", "level=3", "realm.roles=x", "a.b=dotted"] {
        assert!(has(&claims, held), "{held}");
    }
    for other in ["role=edit", "role", "groups=a,b", "admin=1", "realm=x", "realm.roles=y", "nothing=", "=editor"] {
        assert!(!has(&claims, other), "{other}");
    }
}

#[test]
fn a_rule_says_whom_it_concerns_and_what_it_allows() {
    let problems = |toml: &str| {
        let rule: Rule = toml::from_str(toml).unwrap();
        rule.problems(false).into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert!(problems("client = \"svc-*\"\ntopics = [\"a.{client}.>\", \"*\"]\nallow = [\"read\"]").is_empty());
    assert!(problems("allow = [\"operate\"]").is_empty());
    assert_eq!(problems("client = \"*x\"\nallow = [\"operate\"]"), ["client"]);
    assert_eq!(problems("client = \"\"\nclaim = \"role\"\nallow = []"), ["client", "claim", "allow"]);
    assert_eq!(problems("topics = [\"a..b\", \"a.>.b\"]\nallow = [\"read\"]"), ["topics[0]", "topics[1]"]);
    assert!(toml::from_str::<Rule>("allow = [\"subscribe\"]").is_err());
}

#[test]
fn a_pattern_of_the_policy_is_a_pattern_of_the_rules_of_topics() {
    // The same type decides both, so that no topic can be one thing to the one and another to the other.
    let rule =
        |pattern: &str| Rule { topics: vec![pattern.to_owned()], ..toml::from_str("allow = [\"read\"]").unwrap() };
    for pattern in [">", "a", "a.*", "a.>", "*.b", "*"] {
        let rights = Rights::of(&Identity::default(), &[rule(pattern)], false);
        let routed = TopicPattern::parse(pattern).unwrap();
        for name in ["a", "b", "a.b", "a.b.c", "b.b"] {
            let topic = Topic::parse(name).unwrap();
            assert_eq!(rights.allow(Ask::Read(&topic)), routed.matches(&topic), "{pattern} {name}");
        }
    }
}
