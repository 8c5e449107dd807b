//! ComfyUI's own port, where the network is everybody's: it admits only requests with the launch's
//! token, which the gateway adds.

use crate::desired::launch::LaunchCommand;
use crate::problem::{Problem, Result};

/// Runs before ComfyUI's main.py and every node, then as main.py. It stands in the command line, so
/// that no file can be put in its place. The process itself may use its port: nodes do.
const START: &str = include_str!("inner_port.py");

/// Makes ComfyUI check what reaches `port`. Neither its nodes nor what they start find the token in
/// their environment.
///
/// # Errors
/// The command does not run main.py.
pub(super) fn guard_port(command: &mut LaunchCommand, port: u16, token: &str) -> Result<()> {
    let main = command.args.iter().position(|a| a == "main.py");
    let at = main.ok_or_else(|| Problem::new("the command of ComfyUI has no main.py"))?;
    let start = ["-c".to_string(), START.to_string()];
    command.args.splice(at..at, start);
    let values = [
        ("COMFY_INNER_TOKEN", token.to_string()),
        ("COMFY_INNER_PORT", port.to_string()),
    ];
    let values = values.map(|(name, value)| (name.to_string(), value));
    command.env.extend(values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    /// As much of aiohttp as the check touches: an application that is asked for its answer.
    const AIOHTTP: &str = "\
class Response:
    def __init__(self, status=200, text=''):
        self.status, self.text = status, text

class Application:
    async def _handle(self, request):
        return Response(text='ComfyUI')
";

    /// A main.py that asks its own application as aiohttp would.
    const MAIN: &str = r#"
import asyncio, os, socket, sys
from aiohttp import web
import beside

print(sys.argv[1:], os.path.basename(__file__), __name__, beside.here, sorted(n for n in os.environ if "COMFY" in n))
print(sorted(n for n in globals() if n in ("start", "hmac", "token")), os.path.basename(sys.modules["__main__"].__file__))
own = socket.create_server(("127.0.0.1", 0))
address = own.getsockname()

class Transport:
    def __init__(self, **ends): self.ends = ends
    def get_extra_info(self, name): return self.ends.get(name)

class Request:
    def __init__(self, transport, headers): self.transport, self.headers = transport, headers

def ask(what, port=8188, peer=("127.0.0.1", 1), transport=True, **headers):
    ends = Transport(sockname=("127.0.0.1", port), peername=peer) if transport else None
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    answer = asyncio.run(web.Application()._handle(Request(ends, headers)))
    print(what, answer.status, answer.text.strip())

ask("nobody")
ask("the gateway", Comfy_Inner_Token="s3cret")
ask("a guess", Comfy_Inner_Token="s3cre\u00fc")
ask("this process", peer=address)
ask("another server of a node", port=9999)
ask("no connection any more", transport=False)
"#;

    #[expect(clippy::disallowed_methods, reason = "a test starts Python")]
    fn run(folder: &Path, command: &LaunchCommand) -> String {
        let out = Command::new("python3")
            .args(&command.args)
            .env_clear()
            .envs(&command.env)
            .current_dir(folder)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
    }

    fn guarded() -> LaunchCommand {
        let mut command = LaunchCommand {
            args: ["-B", "-s", "main.py", "--port", "8188"]
                .map(String::from)
                .into(),
            ..LaunchCommand::default()
        };
        guard_port(&mut command, 8188, "s3cret").unwrap();
        command
    }

    #[test]
    fn comfyui_s_port_is_the_gateways_and_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let at = dir.path().join(name);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::File::create(at)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        };
        write("main.py", MAIN);
        write("beside.py", "here = 'beside'\n");
        let command = guarded();
        write("aiohttp/__init__.py", "");
        write("aiohttp/web.py", AIOHTTP);
        // The stand-in is found as a package of the environment would be.
        let mut with = command.clone();
        let path = dir.path().display().to_string();
        with.env.insert("PYTHONPATH".into(), path);
        insta::assert_snapshot!(run(dir.path(), &with), @"
        ['--port', '8188'] main.py __main__ beside []
        [] main.py
        nobody 403 comfy: this port is for comfy's gateway; use the address that `comfy status` prints
        the gateway 200 ComfyUI
        a guess 403 comfy: this port is for comfy's gateway; use the address that `comfy status` prints
        this process 200 ComfyUI
        another server of a node 200 ComfyUI
        no connection any more 403 comfy: this port is for comfy's gateway; use the address that `comfy status` prints
        ");
        let alone = tempfile::tempdir().unwrap();
        std::fs::write(alone.path().join("main.py"), "print('starts')\n").unwrap();
        let told = run(alone.path(), &guarded());
        assert!(told.contains("starts"), "{told}");
        let command = LaunchCommand::default();
        assert!(guard_port(&mut command.clone(), 1, "t").is_err());
    }
}
