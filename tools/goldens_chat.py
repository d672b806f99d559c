#!/usr/bin/env python3
"""Renders chat templates with transformers, for tests/model/render_chat_test.cpp.

Writes OUT/chat/renderings.json: the templates that Phi models carry and others that try each thing that
phiq renders, each over every conversation below, with the text or the error that Jinja has for it.

Needs a Python with transformers and jinja2 (any of the environments of tools/setup that has both):
  python tools/goldens_chat.py --out DIR
"""

import argparse
import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

ROOT = pathlib.Path(__file__).resolve().parent.parent
VARIABLES = {"bos_token": "<s>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}

SYSTEM = {"role": "system", "content": "You are brief."}
USER = {"role": "user", "content": "  What is \u00e9\u4e2d\U0001f600?\n\tTell me.  "}
ASSISTANT = {"role": "assistant", "content": "A letter's shape: {{ nothing }} {% if %}"}
CONVERSATIONS = {
    "short": [USER, ASSISTANT],
    "long": [SYSTEM, USER, ASSISTANT, {"role": "user", "content": ""}, {"role": "assistant", "content": "\u00a0Yes.\u2003"}],
    "tools": [{"role": "system", "content": "Use them.", "tools": '[{"name": "f"}]'}, USER, ASSISTANT],
    "no tools": [{"role": "system", "content": "None here.", "tools": None}, USER, ASSISTANT],
    "other role": [{"role": "critic", "content": "Hm.", "score": -3, "good": False}, ASSISTANT],
    "none": [],
    "no content": [{"role": "user"}],
    "null content": [{"role": "user", "content": None}],
}

# As their repositories have them (MIT); "of" names what tests/data has already.
TEMPLATES = {
    "Phi-3.5-mini": "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "Phi-3-small": "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "Phi-3-medium": "{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}",
    "Phi-3-vision": "{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{- '<|assistant|>\n' -}}{% endif %}",
    "Phi-4-mini-reasoning": "{{ '<|system|>Your name is Phi, an AI math expert developed by Microsoft.' }}{% for message in messages %}{% if message['role'] == 'system' %} {{ message['content'] }}{% if 'tools' in message and message['tools'] is not none %}{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}{% endif %}{% endif %}{% endfor %}{{ '<|end|>' }}{% for message in messages %}{% if message['role'] != 'system' %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
    "Phi-4-reasoning, its instructions cut": "<|im_start|>system<|im_sep|>You are Phi, a language model.<|im_end|>{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>'}}{% generation %}{{message['content'] + '<|im_end|>'}}{% endgeneration %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "of tests/data/tokenizers/phi-3-mini": None,
    "of tests/data/tokenizers/phi-4": None,
    "of tests/data/tokenizers/phi-4-mini": None,
    "of tests/data/phi35-tiny": None,
    "of tests/data/phi4mini-tiny": None,
    # Each thing that is rendered.
    "white space": "  {% if true %}\n  a {{- ' b ' -}}  \n c\n{%+ if true %} d\n{% endif -%} \n\n {% endif +%}\n e {#- gone -#} f\n  {# gone #}\n  g\n \t{%- set x = 1 %}\n{{ x }}\n\n",
    "comments and braces": "{ {# a {{ b }} #}} {{ '}}' }} {{ \"%}\" }} {{ '{#' }}{",
    "loops": "{% for m in messages %}{{ loop.index }}/{{ loop.length }},{{ loop.index0 }}{% if loop.first %} first{% endif %}{% if loop.last %} last{% endif %};{% set seen = m.role %}{% endfor %}{{ seen is defined }}{% for x in nothing %}x{% endfor %}{% for x in [1, [2, 'a']] %}{{ x is iterable }}{{ x is number }}{% endfor %}",
    "scopes": "{% set a = 1 %}{% if true %}{% set a = 2 %}{% endif %}{{ a }}{% for m in messages %}{{ a }}{% set a = 3 %}{{ a }}{% endfor %}{{ a }}",
    "slices": "{% for m in messages[1:] %}{{ m.role }},{% endfor %}{% for m in messages[:-1] %}{{ m.role }};{% endfor %}{{ messages[5] is defined }}{{ messages[-1].role }}{{ messages[0:9] | length }}{{ messages[3:1] | length }}",
    "first is a system": "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}{% set system_message = 'Default.' %}{% set rest = messages %}{% endif %}{{ system_message }}{% for m in rest %}|{{ m['content'] | trim }}{% endfor %}",
    "roles must take turns": "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate: ' + m.role) }}{% endif %}{{ m.content }}{% endfor %}",
    "filters and methods": "{% for m in messages %}{{ m.role | upper }}{{ m.role.upper() | lower }}{{ (m.content | default('gone')) | string | trim }}{{ m.role.startswith('us') }}{{ m.role.endswith('m') }}{{ m.get('tools') is none }}{{ m.get('tools', 'x') }}{{ m.role.replace('s', '<s>') }}{{ m.role.split('s') | length }}{{ m.role.split('s')[-1] }}[{{ (m.role ~ ' ').rstrip() }}]{{ m | length }}{{ [m.role, 2] | first }}{{ [m.role, 2] | last }}{% endfor %}{{ messages | count }}",
    "content is stripped": "{% for m in messages %}[{{ m['content'].strip() }}][{{ m['content'].lstrip() }}][{{ m.content.rstrip() }}][{{ m.content | length }}]{% endfor %}",
    "tests": "{% for m in messages %}{{ m.content is string }}{{ m.content is none }}{{ m.content is defined }}{{ m.other is undefined }}{{ m is mapping }}{{ m.good is false }}{{ m.good is boolean }}{{ m.score is integer }}{{ m.score is number }}{{ m is iterable }}{{ m.content is not string }}{% endfor %}{{ messages is sequence }}{{ tools is none }}{{ documents }}",
    "arithmetic": "{{ 1 + 2 - 4 }}{{ -7 % 3 }}{{ 7 % -3 }}{{ 1 ~ 2 }}{{ 'a' 'b' }}{{ 2 > 1 and 1 >= 1 and not 1 < 1 and 1 <= 1 }}{{ 1 == true }}{{ 'a' == 1 }}{{ 1 != 2 }}{{ -(1 + 1) }}{{ 1 + -1 }}{{ none == none }}{{ true }}",
    "choices": "{{ 'a' if messages else 'b' }}{{ 'a' if false }}{{ ('a' if false) is defined }}{{ 'x' or 'y' }}{{ '' or 'y' }}{{ 'x' and '' }}{{ 'a' if false else 'b' if true else 'c' }}{{ not messages }}{{ [] or 'empty' }}",
    "in": "{{ 'a' in 'abc' }}{{ 'd' not in 'abc' }}{{ 1 in [1, 2] }}{{ 'role' in messages[0] }}{{ 'x' in nothing }}{{ messages[0] in messages }}{{ not 'a' in 'b' }}",
    "precedence": "{{ 'a' + 'b' | upper }}{{ 1 + 2 is defined }}{{ not true or true }}{{ not 1 == 2 }}{{ 'a' + 1 ~ 'b' }}{{ -1 | string }}",
    "escapes": "{{ 'a\\n\\t\\'\\\"\\\\\\x41\\u00e9\\r|' }}",
    "line ends in strings": "{{ 'a\nb' }}\n\n{{ \"c\td\" }}\n",
    "python words": "{{ True }}{{ False }}{{ None }}{{ true is true }}",
}


def template_of(name, template):
    if template is not None:
        return template
    return json.loads((ROOT / name.removeprefix("of ") / "tokenizer_config.json").read_text())["chat_template"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    cases = []
    for name, template in TEMPLATES.items():
        case = {"name": name, "template": template_of(name, template), "renderings": {}}
        for conversation, messages in CONVERSATIONS.items():
            try:
                rendered, _ = render_jinja_template([messages], chat_template=case["template"], **VARIABLES)
                case["renderings"][conversation] = rendered[0]
            except Exception:  # of any kind: Python's own for operands of wrong types
                case["renderings"][conversation] = None
        cases.append(case)
    path = options.out / "chat" / "renderings.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"variables": VARIABLES, "conversations": CONVERSATIONS, "templates": cases},
                               indent=1) + "\n")


if __name__ == "__main__":
    main()
