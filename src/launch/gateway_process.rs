//! The gateway of a launch, as the supervisor sees it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use super::network::LaunchNetwork;
use super::port;
use super::processes::OutputTarget;
use crate::desired::launch::LaunchSpec;
use crate::gateway::{self, access, tokens};
use crate::host::roles::{Role, spawn};
use crate::problem::{Context, Problem, Result};

/// A gateway that listens.
pub(super) struct GatewayProcess {
    child: Child,
    /// Its credentials, if it has a port.
    handle: Option<PathBuf>,
    /// What ComfyUI's own port admits.
    pub inner_token: String,
}

/// Starts the gateway, which is listening when this returns; without a port only its egress proxy
/// is.
pub(super) fn start_gateway(
    spec: &LaunchSpec,
    network: &LaunchNetwork,
    voice: &OutputTarget,
    has_port: bool,
) -> Result<GatewayProcess> {
    let listener: Option<OwnedFd> = has_port
        .then(|| port::claim_port(&spec.listen, spec.port))
        .transpose()?
        .map(Into::into);
    let secret = tokens::LaunchSecret::new()?;
    let inner_token = secret.inner_token();
    let (report, told) = spawn::report_pipe()?;
    let mut c = spawn::role_command(Role::Gateway)?;
    c.stdout(voice.stdio()?).stderr(voice.stdio()?);
    let mut kept = vec![&told];
    kept.extend(&listener);
    kept.extend(&network.room);
    spawn::inherit_fds(&mut c, &kept);
    let config = gateway::GatewayConfig {
        uid: spec.gateway_uid,
        listener: listener.as_ref().map(AsRawFd::as_raw_fd),
        network: network.room.as_ref().map(AsRawFd::as_raw_fd),
        inner: network.inner,
        sandbox: spec.uid,
        rules: access::AccessRules {
            owner: spec.owner,
            clients: spec.network.clients.clone(),
            listen: spec.listen.clone(),
            port: spec.port,
            remote: spec.allow_remote,
            hostname: crate::host::machine::short_hostname(),
        },
        proxy: network
            .proxy
            .ok_or_else(|| Problem::new("there is no port for the egress proxy"))?,
        egress: spec.network.egress.clone(),
        secret: secret.clone(),
        require_confinement: spec.require_confinement,
        report: told.as_raw_fd(),
        launcher: spawn::own_pid(),
    };
    let mut child = c.spawn().context("start the gateway")?;
    drop(told);
    let handle = has_port.then(|| spec.paths.gateway_credentials());
    // Its stdin stays open; when it closes, the gateway knows that this process has exited.
    let started = spawn::send_config(&mut child, &config).and_then(|()| {
        match (spawn::read_report(report.into(), b""), &handle) {
            (Some(p), _) => Err(p),
            (None, Some(handle)) => tokens::GatewayCredentials::new(spec.listen_address(), secret)
                .write_for_owner(handle, (spec.owner, 0)),
            (None, None) => Ok(()),
        }
    });
    let gateway = GatewayProcess {
        child,
        handle,
        inner_token,
    };
    match started {
        Ok(()) => Ok(gateway),
        Err(p) => {
            gateway.end();
            Err(p)
        }
    }
}

impl GatewayProcess {
    /// Returns the exit status if it has exited.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Stops it, and removes its credentials file.
    pub(super) fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(handle) = self.handle {
            let _ = crate::host::fs::edit::remove_path(&handle);
        }
    }
}
