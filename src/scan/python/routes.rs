//! Routes of the browser: who answers what, and what an answer changes.

use ruff_python_ast::{Decorator, Expr};

use super::calls::Arguments;
use super::dependencies::Reading;
use super::reader::{Entry, Reader};
use super::rules::{last_segment, web_route::PY_WEB_ROUTE};
use super::scope::Frame;
use super::source::Hit;
use super::summary::effects;
use super::values::{FunctionId, UNKNOWN_PART, Value, What};
use crate::scan::finding::Severity;

/// A path that a function answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    /// In capitals; `ANY` if it is not told.
    method: String,
    path: String,
    handler: Option<FunctionId>,
}

/// Methods of tables of routes, and of applications.
const METHODS: &[&str] = &[
    "get",
    "post",
    "put",
    "delete",
    "patch",
    "head",
    "options",
    "route",
    "view",
    "websocket",
    "api_route",
    "static",
];

impl<'a> Reader<'a> {
    /// `@routes.post("/path")`
    pub(super) fn note_decorator(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        decorator: &'a Decorator,
        handler: FunctionId,
    ) {
        let Expr::Call(call) = &decorator.expression else {
            return;
        };
        let callee = self.value_of(frame, &call.func);
        let Some(name) = callee.name().map(str::to_string) else {
            return;
        };
        let first = call.arguments.args.first();
        let path = first
            .map(|p| self.value_of(frame, p).as_part())
            .unwrap_or_default();
        let Some(mut method) = method_of(&name, &path) else {
            return;
        };
        if method == "ANY"
            && let Some(methods) = call.arguments.find_keyword("methods")
        {
            let methods = self.value_of(frame, &methods.value);
            let changes = methods.as_command_line().to_ascii_uppercase();
            let post = ["POST", "PUT", "DELETE", "PATCH"]
                .iter()
                .any(|m| changes.contains(m));
            method = if post { "POST" } else { "GET" }.to_string();
        } else if method == "ANY" && last_segment(&name) == ".route" {
            method = "GET".to_string();
        }
        let route = Route {
            method,
            path,
            handler: Some(handler),
        };
        self.add_route(frame.module, offset, route);
    }

    /// `app.router.add_post("/path", handler)`, `web.get("/path", handler)`
    pub(super) fn note_route_call(
        &mut self,
        frame: &mut Frame<'a>,
        offset: u32,
        callee: &Value,
        arguments: &Arguments,
    ) {
        let Some(name) = callee.name() else {
            return;
        };
        let last = last_segment(name).trim_start_matches('.');
        let at_router = name.contains("router.add_")
            || name.contains("UrlDispatcher")
            || name.contains("Application().add_");
        let (method, path_at) = match last {
            "add_get" | "add_post" | "add_put" | "add_delete" | "add_patch" | "add_view"
                if at_router =>
            {
                (last["add_".len()..].to_ascii_uppercase(), 0)
            }
            "add_route" if at_router => {
                let method = arguments
                    .positional
                    .first()
                    .map(Value::as_part)
                    .unwrap_or_default();
                (method.to_ascii_uppercase(), 1)
            }
            "add_api_route" | "add_url_rule" | "add_websocket_route" => ("ANY".to_string(), 0),
            "add_static" if at_router || name.contains(".routes") => ("STATIC".to_string(), 0),
            "get" | "post" | "put" | "delete" | "patch" if name.starts_with("aiohttp.web.") => {
                (last.to_ascii_uppercase(), 0)
            }
            _ if name.ends_with("()") && method_of(&name[..name.len() - 2], "/").is_some() => {
                let method = method_of(&name[..name.len() - 2], "/").unwrap_or_default();
                (method, usize::MAX)
            }
            _ => return,
        };
        let path = arguments
            .positional
            .get(path_at)
            .map(Value::as_part)
            .unwrap_or_default();
        let handler = arguments.all().find_map(|v| {
            v.alternatives().iter().find_map(|w| match w {
                What::Function(id) | What::Method(id, _) => Some(*id),
                _ => None,
            })
        });
        if path_at == usize::MAX && handler.is_none() {
            return;
        }
        let route = Route {
            method,
            path,
            handler,
        };
        self.add_route(frame.module, offset, route);
    }

    fn add_route(&mut self, module: usize, offset: u32, route: Route) {
        if let Some(handler) = route.handler
            && self.entries.insert(handler, Entry::Route) != Some(Entry::Route)
        {
            self.noted.read_again(Reading::Function(handler));
        }
        self.routes.insert((module, offset), route);
    }

    /// Tells each route, by what its answer changes.
    pub(super) fn tell_routes(&mut self) {
        let routes = std::mem::take(&mut self.routes);
        for ((module, offset), route) in &routes {
            let effects = route.handler.map_or(0, |h| self.summaries[h].effects);
            let hit = judge_route(route, effects);
            self.tell(*module, *offset, hit, Vec::new());
        }
        self.routes = routes;
    }
}

fn judge_route(route: &Route, done: u8) -> Hit {
    let reads_only = matches!(
        &*route.method,
        "GET" | "HEAD" | "OPTIONS" | "VIEW" | "STATIC"
    );
    let drastic = done & (effects::REMOVES | effects::RUNS | effects::INSTALLS | effects::RESTARTS);
    let writes = done & effects::WRITES;
    let mut severity = match (reads_only, drastic != 0, writes != 0) {
        (_, true, _) | (false, _, true) => Severity::High,
        (false, false, false) => Severity::Medium,
        (true, false, true) => Severity::Medium,
        (true, false, false) => Severity::Low,
    };
    let asks = done & effects::ASKS_SENDER != 0;
    if asks {
        severity = match severity {
            Severity::High | Severity::Critical => Severity::Medium,
            _ => Severity::Low,
        };
    }
    let what = if done & effects::INSTALLS != 0 {
        "installs code"
    } else if done & effects::RUNS != 0 {
        "runs code or programs"
    } else if done & effects::RESTARTS != 0 {
        "ends or restarts ComfyUI"
    } else if done & effects::REMOVES != 0 {
        "removes or moves files"
    } else if writes != 0 {
        "writes files"
    } else if done & effects::CONNECTS != 0 {
        "connects to other machines"
    } else if done & effects::READS != 0 {
        "reads files"
    } else {
        "answers"
    };
    let who = if asks {
        "after a look at who sends"
    } else {
        "and does not ask who sends"
    };
    let path = route.path.replace(UNKNOWN_PART, "…");
    Hit::of(
        &PY_WEB_ROUTE,
        format!("{} {path} {what}, {who}.", route.method),
    )
    .at(severity)
}

/// The HTTP method, if a function of that name makes a route.
fn method_of(name: &str, path: &str) -> Option<String> {
    let (base, method) = name.rsplit_once('.')?;
    if !METHODS.contains(&method) {
        return None;
    }
    let table = base.ends_with(".routes")
        || base == "?routes"
        || [
            "RouteTableDef()",
            "FastAPI()",
            "APIRouter()",
            "Flask()",
            "Blueprint()",
            "Starlette()",
            "Sanic()",
            "Quart()",
            "Bottle()",
        ]
        .iter()
        .any(|t| base.ends_with(t))
        || base == "bottle";
    let last = base
        .rsplit('.')
        .next()
        .unwrap_or(base)
        .trim_start_matches('?');
    let variable = base.starts_with('?')
        && matches!(
            last,
            "app" | "router" | "api" | "server" | "bp" | "blueprint" | "web_app"
        );
    if !(table || variable && path.starts_with('/')) {
        return None;
    }
    Some(match method {
        "route" | "view" | "api_route" | "websocket" => "ANY".to_string(),
        other => other.to_ascii_uppercase(),
    })
}
