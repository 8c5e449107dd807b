//! Routes of the browser.

use crate::scan::finding::{Category, Severity};
use crate::scan::rules::{Example, Rule};

pub(in crate::scan) const RULES: &[Rule] = &[PY_WEB_ROUTE];

pub(in crate::scan) const PY_WEB_ROUTE: Rule = Rule {
    id: "py-web-route",
    category: Category::WebRoute,
    severity: Severity::Medium,
    intent: None,
    reason: "A route answers whoever reaches ComfyUI's port.",
    why: "ComfyUI knows no users: each page in the browser and each machine that reaches the port may send it.",
    fix: "Check who sends (Origin, a token), or accept it where the route only tells what is no secret.",
    examples: &[
        Example::found(
            "from server import PromptServer\n@PromptServer.instance.routes.post('/x')\nasync def f(request):\n    pass\n",
        ),
        Example::found(
            "from aiohttp import web\ndef setup(app):\n    app.router.add_post('/x', f)\n",
        ),
        Example::found(
            "from flask import Flask\napp = Flask('x')\n@app.route('/x', methods=['POST'])\ndef f():\n    pass\n",
        ),
        Example::twin("import requests\nrequests.post('/x', data=1)\n"),
    ],
};
