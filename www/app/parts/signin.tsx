// The sign-in dialog. It keeps the credentials in the page's memory only.

import { useEffect, useRef, useState } from "preact/hooks";

import { open, session, signIn } from "../api";
import { useStore } from "../store";

export function SignIn() {
  const why = useStore(signIn);
  const dialog = useRef<HTMLDialogElement>(null);
  const [said, setSaid] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    setSaid(why ?? "");
    if (why !== undefined && !dialog.current?.open) dialog.current?.showModal();
    if (why === undefined) dialog.current?.close();
  }, [why]);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const fields = new FormData(form);
    const [user, secret] = [String(fields.get("user")).trim(), String(fields.get("secret"))];
    setBusy(true);
    setSaid("");
    try {
      const authorization = user ? `Basic ${base64(`${user}:${secret}`)}` : `Bearer ${secret.trim()}`;
      // A token may be for one repository only, so the first request that uses it checks it.
      const { status } = user ? await open("/v2/", { headers: { Authorization: authorization } }) : { status: 200 };
      if (status === 401) setSaid("The registry does not know this user with this password.");
      else if (status === 429) setSaid("Too many attempts: wait a minute, then try again.");
      else if (status >= 400) setSaid(`The registry answered ${status}: try again later.`);
      else {
        session.set({ user: user || "a token", authorization });
        signIn.set(undefined);
        form.reset();
      }
    } catch (error) {
      setSaid(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby="sign-in"
      onClose={() => signIn.value !== undefined && signIn.set(undefined)}
    >
      <form onSubmit={submit}>
        <h2 id="sign-in">Sign in</h2>
        <label>
          User
          <input name="user" autocomplete="username" autocapitalize="off" spellcheck={false} />
        </label>
        <label>
          Password or token
          <input name="secret" type="password" autocomplete="current-password" required />
        </label>
        <p class="muted small">
          Without a user, the secret is sent as a bearer token. The credentials stay in this page's memory until you
          reload it.
        </p>
        {said && (
          <p class="problem" role="alert">
            {said}
          </p>
        )}
        <p class="actions">
          <button type="submit" class="primary" disabled={busy}>
            Sign in
          </button>
          <button type="button" onClick={() => signIn.set(undefined)}>
            Cancel
          </button>
        </p>
      </form>
    </dialog>
  );
}

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
