//! Genotypes: texts of both forms, what is printed, every error, the published cells.

use darts_core::{BUILTIN_NAMES, CellError, CellGenotype, CellKind, Genotype, GenotypeError, MAX_NODES, Primitive};

const DARTS_V2: &str = "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), \
    ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], \
    normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), \
    ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], \
    reduce_concat=range(2, 6))";

/// A cell of one node, of two in the reduction, with the places for what the tests vary.
fn text(normal: &str, normal_concat: &str, reduce: &str, reduce_concat: &str) -> String {
    format!(
        "Genotype(normal=[{normal}], normal_concat={normal_concat}, reduce=[{reduce}], reduce_concat={reduce_concat})"
    )
}

const ONE: &str = "('sep_conv_3x3', 1), ('none', 0)";

fn error(text: &str) -> GenotypeError {
    Genotype::parse(text).expect_err(text)
}

/// Requires the error to be a syntax error where `marker` stands in the text.
fn assert_syntax_at(text: &str, marker: &str) {
    let at = text.find(marker).expect("the marker is in the text");
    match error(text) {
        GenotypeError::Syntax { position, .. } => assert_eq!(position, at, "{text}: {}", error(text)),
        other => panic!("{text}: {other}"),
    }
}

#[test]
fn prints_as_the_original() {
    assert_eq!(Genotype::builtin("DARTS_V2").unwrap().to_string(), DARTS_V2);
    let nasnet = Genotype::builtin("NASNet").unwrap().to_string();
    assert!(nasnet.contains("normal_concat=range(2, 7)") && nasnet.contains("reduce_concat=range(4, 7)"), "{nasnet}");
    let amoebanet = Genotype::builtin("AmoebaNet").unwrap().to_string();
    assert!(amoebanet.contains("reduce_concat=[3, 4, 6])"), "{amoebanet}");
    assert!(amoebanet.contains("('conv_7x1_1x7', 0)"), "{amoebanet}");
}

#[test]
fn builtins_come_back_from_every_form() {
    for name in BUILTIN_NAMES {
        let genotype = Genotype::builtin(name).expect(name);
        let printed = genotype.to_string();
        assert_eq!(Genotype::parse(&printed).unwrap(), genotype, "{name}");
        let json = serde_json::to_string(&genotype).unwrap();
        assert_eq!(Genotype::parse(&json).unwrap(), genotype, "{name}");
        assert_eq!(serde_json::from_str::<Genotype>(&json).unwrap(), genotype, "{name}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::from_value::<Genotype>(value).unwrap(), genotype, "{name}");
    }
    assert_eq!(Genotype::builtin("DARTS"), Genotype::builtin("DARTS_V2"));
    assert_eq!(Genotype::builtin("darts_v2"), None);
}

#[test]
fn json_has_the_lists_by_name() {
    let json = serde_json::to_value(Genotype::builtin("DARTS_V1").unwrap()).unwrap();
    assert_eq!(json["normal"][0], serde_json::json!(["sep_conv_3x3", 1]));
    assert_eq!(json["reduce"][7], serde_json::json!(["avg_pool_3x3", 0]));
    assert_eq!(json["normal_concat"], serde_json::json!([2, 3, 4, 5]));
    assert_eq!(json.as_object().unwrap().len(), 4);
}

#[test]
fn published_cells_have_their_numbers_of_nodes() {
    for (name, nodes, normal, reduce) in [
        ("DARTS_V1", 4, &[2u8, 3, 4, 5][..], &[2u8, 3, 4, 5][..]),
        ("DARTS_V2", 4, &[2, 3, 4, 5], &[2, 3, 4, 5]),
        ("NASNet", 5, &[2, 3, 4, 5, 6], &[4, 5, 6]),
        ("AmoebaNet", 5, &[4, 5, 6], &[3, 4, 6]),
    ] {
        let genotype = Genotype::builtin(name).unwrap();
        assert_eq!((genotype.normal.nodes(), genotype.reduce.nodes()), (nodes, nodes), "{name}");
        assert_eq!((&genotype.normal.concat[..], &genotype.reduce.concat[..]), (normal, reduce), "{name}");
    }
}

#[test]
fn free_forms_are_read() {
    let plain = Genotype::parse(DARTS_V2).unwrap();
    let lists = DARTS_V2.replace("range(2, 6)", "[2, 3, 4, 5]");
    let assigned = format!("\n  DARTS_V2 = {}\n", DARTS_V2.replace(", ", " ,\n\t"));
    let double = DARTS_V2.replace('\'', "\"");
    let trailing = DARTS_V2.replace(")]", "),]").replace("6))", "6),)").replace("0)", "0,)");
    let packed = DARTS_V2.replace(' ', "");
    for text in [&lists, &assigned, &double, &trailing, &packed] {
        assert_eq!(Genotype::parse(text).expect(text), plain, "{text}");
    }
    let (normal, reduce) =
        DARTS_V2["Genotype(".len()..DARTS_V2.len() - 1].split_at(DARTS_V2.find("reduce").unwrap() - 9);
    let turned = format!("Genotype({reduce}, {})", normal.trim_end_matches(", "));
    assert_eq!(Genotype::parse(&turned).expect(&turned), plain);
    let json = format!(" \n{}\n ", serde_json::to_string_pretty(&plain).unwrap());
    assert_eq!(Genotype::parse(&json).unwrap(), plain);
}

#[test]
fn cells_may_differ_and_take_both_edges_from_one_state() {
    let reduce = "('conv_7x1_1x7', 1), ('sep_conv_7x7', 1), ('avg_pool_3x3', 2), ('dil_conv_5x5', 2)";
    let genotype = Genotype::parse(&text(ONE, "[0, 2, 2]", reduce, "[3]")).unwrap();
    assert_eq!((genotype.normal.nodes(), genotype.reduce.nodes()), (1, 2));
    assert_eq!(genotype.to_string(), text(ONE, "[0, 2, 2]", reduce, "range(3, 4)"));
}

#[test]
fn primitives_have_stable_names_and_ids() {
    let names = [
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
        "sep_conv_7x7",
        "conv_7x1_1x7",
    ];
    for (id, name) in names.into_iter().enumerate() {
        let primitive: Primitive = name.parse().unwrap();
        assert_eq!((primitive.id() as usize, primitive.name()), (id, name));
        assert_eq!(Primitive::from_id(id as u8), Some(primitive));
        if id < 8 {
            assert_eq!(Primitive::SEARCH[id], primitive);
        }
    }
    assert_eq!(Primitive::from_id(10), None);
    let message = "sep_conv".parse::<Primitive>().unwrap_err().to_string();
    assert!(names.iter().all(|name| message.contains(name)), "{message}");
}

#[test]
fn the_text_is_wrong_where_the_error_says() {
    for (text, marker) in [
        ("", ""),
        ("Genotyp(normal=[])", "Genotyp"),
        ("X = Y = Genotype()", "Y ="),
        ("Genotype[normal", "["),
        ("Genotype(edges=[])", "edges"),
        ("Genotype(normal [", "["),
        ("Genotype(normal=(1)", "(1"),
        ("Genotype(normal=['none', 1])", "'none"),
        ("Genotype(normal=[(none, 1)])", "none"),
        ("Genotype(normal=[('none\", 1)])", "none"),
        ("Genotype(normal=[('none' 1)])", "1)"),
        ("Genotype(normal=[('none', 256)])", "256"),
        ("Genotype(normal=[('none', -1)])", "-1"),
        ("Genotype(normal=[('none', 1]", "]"),
        ("Genotype(normal=[('none', 1) ('skip_connect', 0)])", "('skip_connect"),
        ("Genotype(normal_concat=2)", "2"),
        ("Genotype(normal_concat=list(2, 6))", "list"),
        ("Genotype(normal_concat=range[2, 6])", "["),
        ("Genotype(normal_concat=range(2))", "))"),
        ("Genotype(normal_concat=range(2, 6, 1))", ", 1"),
        ("Genotype(normal_concat=[2, x])", "x"),
        ("Genotype(normal_concat=[2] reduce=[])", "reduce"),
    ] {
        assert_syntax_at(text, marker);
    }
    for tail in [")", ", x", "x"] {
        match error(&format!("{DARTS_V2} {tail}")) {
            GenotypeError::Syntax { position, expected: "the end of the text" } => {
                assert_eq!(position, DARTS_V2.len() + 1);
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn every_text_cut_off_is_an_error() {
    let json = serde_json::to_string(&Genotype::parse(DARTS_V2).unwrap()).unwrap();
    for text in [DARTS_V2, &json] {
        for end in 0..text.len() {
            assert!(!error(&text[..end]).to_string().is_empty());
        }
    }
}

#[test]
fn every_byte_replaced_is_an_error_or_another_genotype() {
    let json = serde_json::to_string(&Genotype::parse(DARTS_V2).unwrap()).unwrap();
    for text in [DARTS_V2, &json] {
        for at in 0..text.len() {
            for replacement in
                ["", " ", "0", "9", "(", ")", "[", "]", "{", "}", "'", "\"", ",", ":", "=", "\\", "x", "µ"]
            {
                let spoilt = format!("{}{replacement}{}", &text[..at], &text[at + 1..]);
                if let Ok(genotype) = Genotype::parse(&spoilt) {
                    assert_eq!(Genotype::parse(&genotype.to_string()).unwrap(), genotype, "{spoilt}");
                }
            }
        }
    }
}

#[test]
fn unknown_operations_are_named_and_placed() {
    let text = text("('sep_conv_3x3', 1), ('conv_9x9', 0)", "[2]", ONE, "[2]");
    let error_of = |text: &str| match error(text) {
        GenotypeError::UnknownPrimitive { position, name } => (position, name.to_string()),
        other => panic!("{other}"),
    };
    assert_eq!(error_of(&text), (text.find("conv_9x9").unwrap(), "conv_9x9".into()));
    let json = r#"{"normal":[["conv_9x9",0],["none",1]],"normal_concat":[2],"reduce":[["none",0],["none",1]],"reduce_concat":[2]}"#;
    assert_eq!(error_of(json), (json.find("conv_9x9").unwrap(), "conv_9x9".into()));
    assert!(error(json).to_string().contains("known are none, max_pool_3x3"), "{}", error(json));
    let long = json.replace("conv_9x9", &"µ".repeat(40));
    assert_eq!(error_of(&long).1, "µ".repeat(16));
    let message = serde_json::from_str::<Genotype>(json).unwrap_err().to_string();
    assert!(message.contains("conv_9x9"), "{message}");
}

#[test]
fn lists_are_given_once_each() {
    let twice = DARTS_V2.replace("reduce=", "normal=");
    let position = twice.rfind("normal=").unwrap();
    assert_eq!(error(&twice), GenotypeError::Duplicate { position, key: "normal" });
    let missing = DARTS_V2.replace(", reduce_concat=range(2, 6)", "");
    assert_eq!(error(&missing), GenotypeError::Missing { key: "reduce_concat" });
    assert_eq!(error("Genotype()"), GenotypeError::Missing { key: "normal" });
    let json = serde_json::to_string(&Genotype::parse(DARTS_V2).unwrap()).unwrap();
    let twice = json.replace("\"reduce\"", "\"normal\"");
    let position = twice.rfind("normal\"").unwrap();
    assert_eq!(error(&twice), GenotypeError::Duplicate { position, key: "normal" });
    assert_eq!(error(r#"{"normal":[]}"#), GenotypeError::Missing { key: "normal_concat" });
}

#[test]
fn json_is_wrong_where_the_error_says() {
    for (text, marker) in [
        ("{normal", "normal"),
        (r#"{"normal"=[]}"#, "="),
        (r#"{"other":1}"#, "other"),
        (r#"{"normal":[["none",0,1]]}"#, "1]"),
        (r#"{"normal":[["none",256]]}"#, "256"),
        (r#"{"normal":[("none",0)]}"#, "("),
        (r#"{"normal_concat":range(2, 6)}"#, "range"),
        (r#"{"normal":[]]"#, "]]"),
    ] {
        let at = text.find(marker).unwrap() + usize::from(marker == "]]");
        assert!(
            matches!(error(text), GenotypeError::Syntax { position, .. } if position == at),
            "{text}: {}",
            error(text)
        );
    }
    let json = serde_json::to_string(&Genotype::parse(DARTS_V2).unwrap()).unwrap();
    assert!(matches!(error(&format!("{json} x")), GenotypeError::Syntax { expected: "the end of the text", .. }));
}

#[test]
fn cells_that_make_no_sense() {
    let cell_error = |text: &str| match error(text) {
        GenotypeError::Cell { cell, error } => (cell, error),
        other => panic!("{text}: {other}"),
    };
    let three = "('none', 1), ('none', 0), ('none', 0)";
    let future = "('none', 1), ('none', 0), ('none', 2), ('none', 3)";
    for (text, cell, expected) in [
        (text("", "[2]", ONE, "[2]"), CellKind::Normal, CellError::EdgeCount { edges: 0 }),
        (text(ONE, "[2]", three, "[2]"), CellKind::Reduce, CellError::EdgeCount { edges: 3 }),
        (
            text(future, "[2]", ONE, "[2]"),
            CellKind::Normal,
            CellError::EdgeFromTheFuture { edge: 3, node: 1, source: 3 },
        ),
        (text(ONE, "[]", ONE, "[2]"), CellKind::Normal, CellError::ConcatEmpty),
        (text(ONE, "range(3, 3)", ONE, "[2]"), CellKind::Normal, CellError::ConcatEmpty),
        (text(ONE, "range(3, 2)", ONE, "[2]"), CellKind::Normal, CellError::ConcatEmpty),
        (text(ONE, "range(2, 6)", ONE, "[2]"), CellKind::Normal, CellError::ConcatState { state: 3, states: 3 }),
        (text(ONE, "[2]", ONE, "[2, 1]"), CellKind::Reduce, CellError::ConcatInputOfReduction { state: 1 }),
    ] {
        assert_eq!(cell_error(&text), (cell, expected), "{text}");
    }
    let message = error(&text(future, "[2]", ONE, "[2]")).to_string();
    assert_eq!(
        message,
        "genotype, normal cell: edge 3 takes state 3 to node 1 (state 3), which can take only states 0 to 2"
    );
}

#[test]
fn the_bound_on_nodes_is_exact() {
    let edges = |nodes| vec![(Primitive::SkipConnect, 0); 2 * nodes];
    let cell = CellGenotype::new(&edges(MAX_NODES), &[13]).unwrap();
    let genotype = Genotype::new(cell.clone(), cell).unwrap();
    assert_eq!(Genotype::parse(&genotype.to_string()).unwrap(), genotype);
    assert_eq!(CellGenotype::new(&edges(MAX_NODES + 1), &[2]), Err(CellError::TooManyNodes));
    assert_eq!(CellGenotype::new(&edges(MAX_NODES), &[2; 15]), Err(CellError::ConcatTooLong));
    let many = vec!["('none', 0)"; 25].join(", ");
    assert!(matches!(error(&text(&many, "[2]", ONE, "[2]")), GenotypeError::Syntax { .. }));
    assert!(matches!(error(&text(ONE, "range(0, 15)", ONE, "[2]")), GenotypeError::Syntax { .. }));
    assert!(matches!(error(&text(ONE, "range(0, 255)", ONE, "[2]")), GenotypeError::Syntax { .. }));
}
