"""A plan on a model hub: read from a repository, and written to one."""

from __future__ import annotations

from pathlib import Path

from terratorch_simpler.messages import one_line

PLAN = "plan.json"
"""What a plan is called in a repository."""


def download(repository: str, revision: str | None, filename: str) -> bytes:
    """The content of a file in a repository, from the hub or its cache.

    Raises:
        FileNotFoundError: If there is no such repository, revision or file.
        ValueError: If the name is no repository's, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    place = f"{filename} in {repository}" + (f" at {revision}" if revision else "")
    try:
        return Path(hf_hub_download(repository, filename, revision=revision)).read_bytes()
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{place} is not in the hub's cache, and the hub cannot be reached "
            f"({one_line(error, most=200)}): connect, or load the plan from a file"
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"there is no {place}, or it is private: see its name, and log in with 'hf auth login'"
        ) from error
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no name of a repository: give user/name") from error
    except HfHubHTTPError as error:
        raise ValueError(f"the hub refuses {place}: {one_line(error, most=200)}") from error


def upload(
    content: str, repository: str, filename: str, private: bool, overwrite: bool, message: str
) -> str:
    """Write a file into a repository, which is made if there is none.

    Returns:
        Address of the commit.

    Raises:
        FileExistsError: If the file is there and ``overwrite`` is False.
        ValueError: If the name is no repository's, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        if not overwrite and api.file_exists(repository, filename):
            raise FileExistsError(
                f"{filename} is in {repository} already: choose another repository, or replace it "
                "with overwrite=True"
            )
        done = api.upload_file(
            path_or_fileobj=content.encode(),
            path_in_repo=filename,
            repo_id=repository,
            commit_message=message,
        )
    except HFValidationError as error:
        raise ValueError(f"{repository!r} is no name of a repository: give user/name") from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"the hub refuses to write to {repository} ({one_line(error, most=200)}): log in with "
            "'hf auth login', with a token that may write there"
        ) from error
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise ValueError(
            f"the hub cannot be reached ({one_line(error, most=200)}): connect, and try again"
        ) from error
    return str(done.commit_url)
