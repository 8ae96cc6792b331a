//! Logging in: the test is the user, the browser and the issuer.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::common::server::{Asked, Reply, Server};
use crate::common::sigstore::{Rekor, sha256};
use crate::common::{Run, tensorseal_in, write};
use crate::instance::{Instance, NAME, token};

/// The fields of a query or a form.
fn fields(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let mut out = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let two = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&two).unwrap(), 16).unwrap()
                }
                byte => byte,
            });
        }
        String::from_utf8(out).unwrap()
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// How the issuer treats the user.
#[derive(Clone, Copy, Default)]
struct Manners {
    /// Where the browser is sent back to, in place of the right query.
    back: Option<&'static str>,
    wrong_state: bool,
    wrong_nonce: bool,
    other_issuer: bool,
    refuses_code: bool,
    secret_in_form: bool,
    calls_itself: Option<&'static str>,
}

struct Issuer {
    instance: Instance,
    server: Server,
}

/// An issuer, an instance that knows it, and a browser that goes where it is sent.
fn serving(manners: Manners) -> Issuer {
    let asked: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let server = Server::start(move |request| serve(request, manners, &asked));
    let instance = Instance::right(Rekor::V2);
    let path = instance.path().join("trust.json");
    let text = std::fs::read_to_string(&path).unwrap();
    write(&path, text.replace(&format!("{}/oidc", instance.server.url), &server.url));
    // It asks for an icon first, and opens a connection that it does not use: browsers do.
    let browser = "#!/usr/bin/env python3\n\
        import socket, sys, urllib.parse, urllib.request\n\
        back = urllib.parse.parse_qs(urllib.parse.urlsplit(sys.argv[1]).query)['redirect_uri'][0]\n\
        where = urllib.parse.urlsplit(back)\n\
        idle = socket.create_connection((where.hostname, where.port))\n\
        try: urllib.request.urlopen(urllib.parse.urljoin(back, '/favicon.ico'))\n\
        except urllib.error.HTTPError: pass\n\
        try: urllib.request.urlopen(sys.argv[1])\n\
        except urllib.error.HTTPError: pass\n";
    let program = instance.path().join("browser");
    write(&program, browser);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Issuer { instance, server }
}

fn serve(request: &Asked, manners: Manners, asked: &Mutex<BTreeMap<String, String>>) -> Reply {
    let host = format!("http://{}", request.header("host"));
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    match path {
        "/.well-known/openid-configuration" => Reply::ok(
            json!({
                "issuer": manners.calls_itself.unwrap_or(&host),
                "authorization_endpoint": format!("{host}/authorize?theme=dark"),
                "token_endpoint": format!("{host}/token"),
                "token_endpoint_auth_methods_supported":
                    if manners.secret_in_form { json!(["client_secret_post"]) } else { json!(["client_secret_basic", "client_secret_post"]) },
            })
            .to_string(),
        ),
        "/authorize" => {
            let question = fields(query);
            assert_eq!((&*question["response_type"], &*question["scope"], &*question["theme"]), ("code", "openid email", "dark"));
            assert_eq!(question["code_challenge_method"], "S256");
            let state = if manners.wrong_state { "another" } else { &question["state"] };
            let back = manners.back.map_or_else(|| format!("code=c0de&state={state}"), |back| format!("{back}&state={state}"));
            let to = format!("{}?{back}", question["redirect_uri"]);
            *asked.lock().unwrap() = question;
            Reply::Elsewhere(to)
        }
        "/token" => {
            let form = fields(&request.text());
            let question = asked.lock().unwrap();
            assert_eq!((&*form["grant_type"], &*form["code"]), ("authorization_code", "c0de"));
            assert_eq!(form["redirect_uri"], question["redirect_uri"]);
            // RFC 7636, 4.6.
            assert_eq!(URL_SAFE_NO_PAD.encode(sha256(form["code_verifier"].as_bytes())), question["code_challenge"]);
            assert!((43..=128).contains(&form["code_verifier"].len()));
            if manners.refuses_code {
                let no = json!({"error": "invalid_grant", "error_description": format!("the code is used up{}", form.get("client_secret").cloned().unwrap_or_default())});
                return Reply::Send(400, no.to_string().into());
            }
            let nonce = if manners.wrong_nonce { "another" } else { &question["nonce"] };
            let iss = if manners.other_issuer { "https://other.example" } else { &host };
            // The identity that the instance certifies is of another issuer, as behind Dex.
            let claims = json!({"nonce": nonce, "iss": iss, "federated_claims": {"connector_id": crate::instance::ISSUER}});
            Reply::ok(json!({"access_token": "acce55", "id_token": token(&claims)}).to_string())
        }
        _ => Reply::Send(404, Vec::new()),
    }
}

impl Issuer {
    fn with_browser(&self, args: &[&str]) -> Run {
        let browser = self.instance.path().join("browser");
        self.instance.sign(None, args, &[("BROWSER", browser.to_str().unwrap())])
    }

    fn refused(&self, words: &str) {
        let run = self.with_browser(&[]);
        run.expect(3, words, words);
        assert!(!self.instance.signature().exists(), "{words}");
        assert!(!format!("{run:?}").contains("YSBzZWNyZXQ"), "the token is shown");
    }

    fn token_request(&self) -> Asked {
        self.server.asked().into_iter().find(|asked| asked.path == "/token").unwrap()
    }
}

#[test]
fn a_browser_logs_in() {
    let issuer = serving(Manners::default());
    let run = issuer.with_browser(&[]);
    run.expect(0, &format!("signed by \"{NAME}\""), "browser");
    run.expect(0, "visit:", "the address is shown too");
    assert!(!run.stdout.contains("http"), "standard output is for the result");
    let asked = issuer.token_request();
    assert_eq!(asked.header("authorization"), "");
    assert_eq!(fields(&asked.text())["client_id"], "sigstore");
}

#[test]
fn a_client_has_a_secret_if_it_is_given_one() {
    let issuer = serving(Manners::default());
    write(issuer.instance.path().join("secret"), "s3cret\n");
    issuer.with_browser(&["--client-secret-file", "secret"]).expect(0, NAME, "basic");
    let asked = issuer.token_request();
    assert_eq!(asked.header("authorization"), format!("Basic {}", STANDARD.encode("sigstore:s3cret")));
    assert!(!asked.text().contains("s3cret"));

    let issuer = serving(Manners { secret_in_form: true, ..Manners::default() });
    let run = issuer.with_browser(&["--client-secret", "s3cret"]);
    run.expect(0, "the client secret on the command line can be seen", "post");
    assert_eq!(fields(&issuer.token_request().text())["client_secret"], "s3cret");
    assert!(!format!("{run:?}").contains("s3cret"));

    let issuer = serving(Manners { secret_in_form: true, refuses_code: true, ..Manners::default() });
    write(issuer.instance.path().join("secret"), "s3cret\n");
    let run = issuer.with_browser(&["--client-secret-file", "secret"]);
    run.expect(3, "the code is used up[..]", "an issuer that quotes it");
    assert!(!format!("{run:?}").contains("s3cret"), "{run:?}");
}

#[test]
fn an_answer_that_is_not_ours_is_refused() {
    serving(Manners { wrong_state: true, ..Manners::default() }).refused("wrong state");
    serving(Manners { wrong_nonce: true, ..Manners::default() }).refused("wrong nonce");
    serving(Manners { other_issuer: true, ..Manners::default() }).refused("its token is of \"https://other.example\"");
    serving(Manners { calls_itself: Some("https://other.example"), ..Manners::default() })
        .refused("it calls itself \"https://other.example\"");
}

#[test]
fn a_no_of_the_issuer_is_shown() {
    let back = Some("error=access_denied&error_description=not+you%1b[2J");
    serving(Manners { back, ..Manners::default() })
        .refused("the login was refused: \"access_denied\": not you\\u{1b}[2J");
    serving(Manners { refuses_code: true, ..Manners::default() })
        .refused("the login was refused: \"invalid_grant\": the code is used up");
}

#[test]
fn without_a_browser_and_a_terminal_nobody_is_asked() {
    let issuer = serving(Manners::default());
    let run = issuer.instance.sign(None, &[], &[]);
    run.expect(3, "there is no terminal and no browser here", "nobody");
    assert!(issuer.server.asked().is_empty() && issuer.instance.server.asked().is_empty());
    issuer.instance.sign(None, &["--oauth-force-oob"], &[]).expect(3, "no code was given", "no standard input");
}

#[test]
fn a_code_can_be_copied() {
    let issuer = serving(Manners::default());
    let all = ["sign", "sigstore", "m", "--trust-config", "trust.json", "--oauth-force-oob", "--client-id", "sigstore"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_tensorseal"))
        .args(all)
        .current_dir(issuer.instance.path())
        .env("HOME", issuer.instance.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The user follows the address, and the issuer shows the code.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("http") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0, "no address");
    }
    let question = fields(line.trim().split_once('?').unwrap().1);
    assert_eq!(question["redirect_uri"], "urn:ietf:wg:oauth:2.0:oob");
    let fetched = Command::new("python3")
        .args(["-c", "import http.client,sys,urllib.parse as u; p=u.urlsplit(sys.argv[1]); c=http.client.HTTPConnection(p.netloc); c.request('GET', p.path+'?'+p.query); print(c.getresponse().getheader('Location'))"])
        .arg(line.trim())
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&fetched.stdout).contains("code=c0de"), "{fetched:?}");
    child.stdin.take().unwrap().write_all(b" c0de \n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(issuer.instance.signature().exists());
}

#[test]
fn an_instance_without_an_issuer_cannot_be_logged_in_at() {
    let instance = Instance::right(Rekor::V1);
    let path = instance.path().join("trust.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["signingConfig"]["oidcUrls"] = json!([]);
    write(&path, config.to_string());
    instance.sign(None, &[], &[("BROWSER", "true")]).expect(3, "names no OpenID Connect issuer", "no issuer");
    config.as_object_mut().unwrap().remove("signingConfig");
    write(&path, config.to_string());
    instance.sign(Some(&token(&json!({}))), &[], &[]).expect(3, "holds no signing configuration", "no configuration");
    let all = ["sign", "sigstore", "m", "--trust-config", "none.json", "--identity-token-file", "token"];
    tensorseal_in(instance.path(), &all, &[]).expect(3, "none.json", "no file");
}
