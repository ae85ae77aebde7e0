use serde_json::{Map, Value, json};

use super::{Template, TemplateError};

fn fill(text: &str, value: &Value) -> Result<String, TemplateError> {
    let methods = json!({"Label": {"com.example.cpu": "4"}});
    let methods = methods.as_object().cloned().unwrap_or_else(Map::new);
    Template::parse(text)?.fill(value, &methods)
}

#[test]
fn templates_read_as_go_reads_them() {
    let value = json!({
        "ID": "abcdef", "Name": "/web", "Size": 3, "On": true, "Off": false, "Nothing": null,
        "Args": ["a", "b", "c"],
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"z": "1", "a.b": "2"}},
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}},
    });
    for (text, expected) in [
        ("{{.ID}}\\t{{ .Size }}!", "abcdef\t3!"),
        (
            "{{.Config.Env}} {{.Config.Labels}}",
            "[A=1 B=2] map[a.b:2 z:1]",
        ),
        ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
        (
            r#"{{index .Config.Labels "a.b"}}{{index .Config.Labels "no"}}"#,
            "2",
        ),
        (r#"{{join .Args ", "}}|{{.Args | len}}"#, "a, b, c|3"),
        (
            "{{upper .ID}} {{.ID | upper | lower}} {{title .ID}}",
            "ABCDEF abcdef Abcdef",
        ),
        (r#"{{range split .Name "b"}}<{{.}}>{{end}}"#, "</we><>"),
        ("{{range .Args}}{{println .}}{{end}}", "a\nb\nc\n"),
        (
            "{{range $i, $v := .Args}}{{$i}}{{$v}}{{$.Size}} {{end}}",
            "0a3 1b3 2c3 ",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "a.b=2;z=1;",
        ),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        (
            "{{range $p, $conf := .NetworkSettings.Ports}} {{$p}} -> {{(index $conf 0).HostPort}} {{end}}",
            " 80/tcp -> 8080 ",
        ),
        (
            r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#,
            "8080",
        ),
        ("{{if .Off}}1{{else if .On}}2{{else}}3{{end}}", "2"),
        ("{{if and .On (not .Off) (gt .Size 2)}}yes{{end}}", "yes"),
        (
            r#"{{if eq .ID "x" "abcdef"}}y{{end}}{{if ne .Size 3}}n{{end}}"#,
            "y",
        ),
        (
            "{{with .Config}}{{index .Env 1}}{{end}}{{with .Off}}x{{else}}-{{end}}",
            "B=2-",
        ),
        (r#"{{pad .ID 1 2}}|{{pad "" 3 3}}|"#, " abcdef  ||"),
        (
            "{{slice .ID 1 3}}{{truncate .ID 2}}{{slice .Args 1}}",
            "bcab[b c]",
        ),
        (
            r#"{{printf "%-4s|%3d|%v|%q|%%" .Args .Size .On .ID}}"#,
            "[a b c]|  3|true|\"abcdef\"|%",
        ),
        ("a {{- .Size -}}  b{{/* note */}}", "a3b"),
        ("{{$x := .ID}}{{$x}}{{$x = \"y\"}}{{$x}}", "abcdefy"),
        (r#"{{.Label "com.example.cpu"}}{{.Label "none"}}"#, "4"),
        (r#"{{"}}"}}{{`raw`}}{{.Nothing}}"#, "}}raw<no value>"),
        ("no action", "no action"),
    ] {
        assert_eq!(fill(text, &value).as_deref(), Ok(expected), "{text}");
    }
    assert_eq!(fill("json", &value).unwrap(), value.to_string());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for text in [
        "{{.ID",
        "{{if .A}}",
        "{{end}}",
        "{{else}}",
        "{{nope .A}}",
        "{{}}x{{.A | 3}}",
        "{{(.A}}",
        "{{\"x}}",
        "{{range .A}}{{else if .B}}{{end}}",
        "{{.A )}}",
        "{{$x,}}",
    ] {
        assert!(
            matches!(Template::parse(text), Err(TemplateError::Syntax { .. })),
            "{text}"
        );
    }
    let value = json!({"A": {"B": 1}, "L": []});
    assert_eq!(
        fill("{{.A.Nope}}", &value).unwrap_err().to_string(),
        "template `{{.A.Nope}}`: there is no field `A.Nope`"
    );
    for text in [
        "{{index .L 0}}",
        "{{len .A.B}}",
        "{{lt .A 1}}",
        "{{printf \"%d\" \"x\"}}",
        "{{slice \"é\" 1}}",
    ] {
        assert!(
            matches!(fill(text, &value), Err(TemplateError::Call { .. })),
            "{text}"
        );
    }
}

#[test]
fn what_comes_from_outside_is_escaped_and_nothing_else() {
    let value = json!({"N": "a\u{1b}[31m\nb", "L": ["\u{7}", "x"]});
    assert_eq!(fill("{{.N}}\\n", &value).unwrap(), "a\\x1b[31m\\nb\n");
    assert_eq!(
        fill(r#"{{join .L "\n"}}{{upper .N}}"#, &value).unwrap(),
        "\\x07\nxA\\x1b[31M\\nB"
    );
    assert_eq!(fill("{{json .L}}", &value).unwrap(), r#"["\u0007","x"]"#);
}

#[test]
fn a_head_has_titles_for_fields() {
    let template =
        Template::parse("table {{.ID}}\\t{{upper .Names}}\\t{{.Label \"com.a-b\"}}").unwrap();
    assert!(template.table);
    assert_eq!(
        template.head(&|field| format!("The {field}")).unwrap(),
        "The ID\tTHE NAMES\ta b"
    );
}

#[test]
fn fields_that_are_all_a_template_shows() {
    let fill = |text: &str| {
        let template = Template::parse(text).unwrap();
        let field = |name: &str| match name {
            "ID" => Some("1\x1b".into()),
            "Names" => Some("\u{202e}ö".into()),
            _ => None,
        };
        template.plain().map(|plain| plain.fill(field))
    };
    assert_eq!(
        fill("table {{.ID}}\\t{{.Names}}"),
        Some(Ok("1\\x1b\t\\u{202e}ö".to_owned()))
    );
    assert_eq!(fill("words"), Some(Ok("words".to_owned())));
    let same = Template::parse("{{.ID}} {{.Image}}").unwrap();
    let value = json!({"ID": "1"});
    assert_eq!(
        fill("{{.ID}} {{.Image}}"),
        Some(same.fill(&value, &Map::new()))
    );
    for more in [
        "json",
        "{{.}}",
        "{{json .ID}}",
        "{{.State.Pid}}",
        "{{if .ID}}x{{end}}",
        "{{$x := .ID}}{{$x}}",
        "{{.Label \"a\"}}",
        "{{$.ID}}",
    ] {
        assert_eq!(fill(more), None, "{more}");
    }
}
