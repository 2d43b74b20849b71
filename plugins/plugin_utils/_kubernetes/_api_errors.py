# Copyright (c) 2026, the nettap.containers authors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an error of the Kubernetes API, or on the way to it, means for a person."""

from __future__ import annotations

import json
import re
import typing as t

# Messages of urllib3 and the kernel for an API that does not answer.
_UNREACHABLE = re.compile(
    r"Max retries exceeded|NewConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|Connection refused|Connection aborted|No route to host",
    re.IGNORECASE,
)
# Messages of OpenSSL (crypto/x509/x509_txt.c, ssl/ssl_err.c), as Python's client shows them, and of Go's crypto/x509 and crypto/tls, as kubectl does;
# then what is wrong, and what to do. The first one that is found counts.
_TLS = tuple((re.compile(pattern, re.IGNORECASE), wrong, remedy) for pattern, wrong, remedy in (
    (r"certificate has expired|certificate is not yet valid",
     "the API's certificate is not valid at this time",
     "renew it ('kubeadm certs renew' on the control plane), or correct the controller's clock"),
    (r"hostname mismatch|IP address mismatch|certificate is not valid for|certificate is valid for|doesn't contain any IP SANs",
     "the API's certificate is for other names or addresses",
     "give the cluster's server in the kubeconfig by one of those, or set its tls-server-name"),
    (r"does not include key usage|authority key identifier|subject key identifier|basic constraints|key usage does not|invalid CA certificate|path length",
     "Python 3.13 and newer refuse the cluster's CA or certificate, for it lacks what RFC 5280 demands",
     "have it made anew (a CA with keyUsage keyCertSign), or set ansible_python_interpreter of localhost to a Python 3.12 that has the library kubernetes"),
    (r"CERTIFICATE_VERIFY_FAILED|unknown authority|failed to verify certificate",
     "its certificate was not issued by the CA of the kubeconfig",
     "take the certificate-authority of this very cluster ('kubectl config view --raw' where kubectl works)"),
    (r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|first record does not look like a TLS handshake",
     "what answers there does not speak TLS",
     "correct the address of the cluster's server in the kubeconfig"),
    (r"(tls\w+ )?alert (unknown ca|bad certificate|certificate \w+)|tls: unknown certificate|tls: bad certificate",
     "the API refuses the client certificate of the kubeconfig",
     "log in anew, or take the kubeconfig of this very cluster"),
    (r"NO_CERTIFICATE_OR_CRL_FOUND|\[SSL\] PEM lib|KEY_VALUES_MISMATCH|unable to load root certificates|failed to find any PEM data",
     "a certificate or key of the kubeconfig cannot be read",
     "see that its certificate-authority, client-certificate and client-key are whole and belong together"),
))  # fmt: skip


def explain(result: t.Mapping[str, t.Any], doing: str, right: str) -> str:
    """Return one sentence that explains the failed result of a kubernetes.core module.

    `doing` is what the module was to do, `right` the right that this needs.
    """
    text = " ".join(str(result.get(key) or "") for key in ("msg", "exception", "module_stderr"))
    said = _status_message(text)
    if "Reason: Forbidden" in text or "is forbidden:" in text or "(403)" in text:
        return f"The Kubernetes API forbids this account to {doing}" + (f" ({said})" if said else "") + f": grant it {right}, see docs/kubernetes.md."
    if "Unauthorized" in text or "(401)" in text:
        return f"The Kubernetes API does not accept these credentials, so it cannot be asked to {doing}: log in anew, or check kubeconfig and K8S_AUTH_*."
    at = re.search(r"host='?([^',)]+)'?, port=(\d+)", text)
    where = f" at {at[1]}:{at[2]}" if at else ""
    for pattern, wrong, remedy in _TLS:
        found = pattern.search(text)
        if found:
            return f"The Kubernetes API{where} cannot be trusted, so it cannot be asked to {doing}: {wrong} ({_words(text) or found[0].lower()}); {remedy}."
    if _UNREACHABLE.search(text):
        return (
            f"The Kubernetes API{where} cannot be reached, so it cannot be asked to {doing}: "
            "check that it runs, the network to it, and kubeconfig and context."
        )
    if "kube-config" in text or "ConfigException" in text or "Could not create API client" in text:
        return f"No usable kubeconfig was found, so Kubernetes cannot be asked to {doing}: give kubeconfig and context, or set K8S_AUTH_KUBECONFIG."
    return f"Kubernetes could not be asked to {doing}: {said or ' '.join(str(result.get('msg')).split())[:300].rstrip('.')}."


def _words(text: str) -> str:
    """Return what OpenSSL or Go's crypto/x509 says of a certificate; "" if neither says anything."""
    found = re.search(r"certificate verify failed: (.+?)\.? \(_ssl|x509: ([^\n\"]+)", text)
    return (found[1] or found[2]).strip()[:200] if found else ""


def _status_message(text: str) -> str:
    """Return the message of the API's Status object inside an error text; "" when there is none."""
    for start in (match.start() for match in re.finditer(r'\{\\?"', text)):
        # The client prints the object as Python prints bytes or text.
        for candidate in (text[start:], text[start:].replace('\\"', '"').replace("\\\\", "\\")):
            try:
                status, _end = json.JSONDecoder().raw_decode(candidate)
            except ValueError:
                continue
            if isinstance(status, dict) and status.get("kind") == "Status":
                return str(status.get("message") or "").rstrip(".")
    return ""
