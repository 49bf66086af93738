use super::*;
use ::metrics::{Key, Label as FacadeLabel, Level as FacadeLevel, Metadata, Recorder};
use proptest::prelude::*;

/// One line of the exposition.
#[derive(PartialEq, Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Reads the text format strictly: every line is a comment or a sample, and every sample has had its `# TYPE`.
fn parse(page: &str) -> Vec<Sample> {
    assert!(page.ends_with('\n'));
    let mut samples = Vec::new();
    let mut typed: Option<(String, String)> = None;
    let mut seen = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a kind");
            assert!(seen.insert(name.to_owned()), "{name} comes twice");
            typed = Some((name.to_owned(), kind.to_owned()));
        } else if !line.starts_with("# HELP ") {
            let sample = sample(line);
            let (name, kind) = typed.as_ref().expect("a type comes first");
            let allowed: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(allowed.iter().any(|suffix| sample.name == format!("{name}{suffix}")), "{line} under {name}");
            samples.push(sample);
        }
    }
    samples
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a name ends");
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (name, after) = rest.trim_start_matches(',').split_once("=\"").expect("a label has a value");
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next().expect("a value ends") {
                    (end, '"') => break end,
                    (_, '\\') => value.push(match characters.next().expect("an escape ends").1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("nothing is escaped as \\{other}"),
                    }),
                    (_, character) => value.push(character),
                }
            };
            labels.push((name.to_owned(), value));
            rest = &after[end + 1..];
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect("a space").replace("+Inf", "inf").parse().expect("a number");
    Sample { name: name.to_owned(), labels, value }
}

fn values<'a>(samples: &'a [Sample], name: &str) -> Vec<&'a Sample> {
    samples.iter().filter(|sample| sample.name == name).collect()
}

#[test]
fn the_same_values_are_the_same_cell() {
    let metrics = Metrics::new(100);
    metrics.counter(&HTTP_REQUEST_BYTES, &["a"]).add(1);
    metrics.counter(&HTTP_REQUEST_BYTES, &["b"]).add(10);
    metrics.counter(&HTTP_REQUEST_BYTES, &["a"]).add(2);
    assert_eq!(metrics.counter(&HTTP_REQUEST_BYTES, &["a"]).get(), 3);
}

#[test]
fn a_gauge_is_counted_or_set() {
    let gauge = Metrics::new(100).gauge(&CONNECTIONS, &["main"]);
    let held = (gauge.hold(), gauge.hold());
    assert_eq!(gauge.get(), 2.0);
    drop(held);
    gauge.set(2.5);
    gauge.add(3);
    gauge.sub(1);
    assert_eq!(gauge.get(), 4.5);
}

#[test]
fn beyond_the_cap_names_are_lost_and_results_are_not() {
    let metrics = Metrics::new(3);
    for route in ["a", "b", "c", "d"] {
        metrics.counter(&HTTP_RESPONSES, &[route, "200"]).add(1);
        metrics.counter(&HTTP_RESPONSES, &[route, "503"]).add(1);
        // A family without names has room always.
        metrics.counter(&REJECTIONS, &["E5030"]).add(1);
    }
    let samples = parse(&metrics.render());
    let responses: Vec<_> =
        values(&samples, "shoal_http_responses_total").iter().map(|s| (s.labels[0].1.as_str(), s.labels[1].1.as_str(), s.value)).collect();
    assert_eq!(responses, [("_other", "200", 3.0), ("_other", "503", 3.0), ("a", "200", 1.0), ("a", "503", 1.0)]);
    assert_eq!(values(&samples, "shoal_rejections_total")[0].value, 4.0);
    assert_eq!(values(&samples, "shoal_metrics_series_dropped_total")[0].value, 6.0);
    assert_eq!(values(&samples, "shoal_metrics_series")[0].value, samples.len() as f64);
}

#[test]
fn what_is_gone_leaves_and_makes_room() {
    let metrics = Metrics::new(50);
    for route in ["kept", "gone"] {
        metrics.histogram(&HTTP_SERVER_REQUEST_DURATION, &["/", route, "GET", "2xx"]).record(Default::default());
    }
    let none = metrics.counter(&HTTP_RESPONSES, &[NONE, "404"]);
    none.add(1);
    metrics.counter(&RETRIES, &["gone", "success"]).add(1);
    metrics.retire(|noun, name| noun == Noun::Route && name == "gone");

    let samples = parse(&metrics.render());
    let routes: Vec<_> = values(&samples, "http_server_request_duration_seconds_count").iter().map(|s| s.labels[1].1.as_str()).collect();
    assert_eq!(routes, ["kept"]);
    assert_eq!(values(&samples, "shoal_retries_total").len(), 1, "a service of the same name is another noun");
    assert_eq!(values(&samples, "shoal_http_responses_total").len(), 1);
    assert_eq!(values(&samples, "shoal_metrics_series")[0].value, samples.len() as f64);

    metrics.histogram(&HTTP_SERVER_REQUEST_DURATION, &["/", "next", "GET", "2xx"]).record(Default::default());
    assert_eq!(values(&parse(&metrics.render()), "shoal_metrics_series_dropped_total")[0].value, 0.0);
}

#[test]
fn a_page_reads_like_this() {
    let metrics = Metrics::new(100);
    let duration = metrics.histogram(&HTTP_CLIENT_REQUEST_DURATION, &["inventory"]);
    duration.record(std::time::Duration::from_micros(1_500));
    duration.record(std::time::Duration::from_secs(60));
    metrics.counter(&PROCESS_CPU, &[]).add(1_250_000_000);
    let page = metrics.render();
    for expected in [
        "# TYPE http_client_request_duration_seconds histogram\n\
         http_client_request_duration_seconds_bucket{shoal_service=\"inventory\",le=\"0.001\"} 0\n\
         http_client_request_duration_seconds_bucket{shoal_service=\"inventory\",le=\"0.002\"} 1\n",
        "http_client_request_duration_seconds_bucket{shoal_service=\"inventory\",le=\"10\"} 1\n\
         http_client_request_duration_seconds_bucket{shoal_service=\"inventory\",le=\"+Inf\"} 2\n\
         http_client_request_duration_seconds_sum{shoal_service=\"inventory\"} 60.0015\n\
         http_client_request_duration_seconds_count{shoal_service=\"inventory\"} 2\n",
        "# HELP shoal_config_info The configuration that is served, always 1.\n# TYPE shoal_config_info gauge\n",
        "process_cpu_seconds_total 1.25\n",
    ] {
        assert!(page.contains(expected), "{expected}\nis not in\n{page}");
    }
    assert_eq!(page, metrics.render(), "two pages without anything between them are equal");
}

fn facade(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(name, value)| FacadeLabel::new(*name, *value)).collect::<Vec<_>>())
}

#[test]
fn libraries_count_through_the_facade() {
    let metrics = Metrics::new(100);
    let metadata = Metadata::new("a library", FacadeLevel::INFO, None);
    metrics.describe_counter("pool.hits".into(), None, "Hits\nof the pool.".into());
    metrics.register_counter(&facade("pool.hits", &[("shard", "1")]), &metadata).increment(2);
    metrics.register_gauge(&facade("pool.fill", &[]), &metadata).set(0.5);
    metrics.register_gauge(&facade("pool.fill", &[]), &metadata).decrement(0.25);
    metrics.register_histogram(&facade("pool.wait", &[]), &metadata).record(0.003);
    // A declared family is one and the same from both sides.
    metrics.register_counter(&facade("shoal_rejections_total", &[("code", "E1")]), &metadata).increment(1);
    assert_eq!(metrics.counter(&REJECTIONS, &["E1"]).get(), 1);
    // These fit nothing.
    metrics.register_gauge(&facade("shoal_rejections_total", &[("code", "E1")]), &metadata).set(9.0);
    metrics.register_counter(&facade("shoal_rejections_total", &[("colour", "red")]), &metadata).increment(9);

    let page = metrics.render();
    let samples = parse(&page);
    assert!(page.contains("# HELP pool_hits Hits\\nof the pool.\n# TYPE pool_hits counter\npool_hits{shard=\"1\"} 2\n"), "{page}");
    assert_eq!(values(&samples, "pool_fill")[0].value, 0.25);
    assert_eq!(values(&samples, "pool_wait_count")[0].value, 1.0);
    assert_eq!(metrics.counter(&REJECTIONS, &["E1"]).get(), 1);
    assert_eq!(values(&samples, "shoal_metrics_series_dropped_total")[0].value, 2.0);
}

#[test]
fn the_facade_is_capped_as_well() {
    let metrics = Metrics::new(10);
    let metadata = Metadata::new("a library", FacadeLevel::INFO, None);
    for index in 0..1_000 {
        let key = Key::from_parts("requests", vec![FacadeLabel::new("caller", format!("{index}"))]);
        metrics.register_counter(&key, &metadata).increment(1);
        metrics.describe_gauge(format!("family_{index}").into(), None, "One of many.".into());
    }
    let samples = parse(&metrics.render());
    assert!(values(&samples, "requests").len() <= 10);
    assert!(metrics.render().matches("One of many.").count() <= 10);
}

proptest! {
    #[test]
    fn whatever_a_name_holds_comes_back(names in prop::collection::btree_set(".{0,20}|[\\\\\"\n{},= ]{0,8}", 0..20)) {
        let metrics = Metrics::new(1_000);
        for (index, name) in names.iter().enumerate() {
            metrics.counter(&HTTP_REQUEST_BYTES, &[name]).add(index as u64);
        }
        // The page is split at line feeds only: what else ends a line elsewhere is part of a value.
        let page = metrics.render();
        let samples: Vec<_> = page.split_terminator('\n').filter(|line| line.starts_with("shoal_http_request_bytes_total")).map(sample).collect();
        let read: Vec<_> = samples.iter().map(|sample| (&sample.labels[0].1, sample.value)).collect();
        let expected: Vec<_> = names.iter().enumerate().map(|(index, name)| (name, index as f64)).collect();
        prop_assert_eq!(read, expected);
    }
}
