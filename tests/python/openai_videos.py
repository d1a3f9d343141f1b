"""The official OpenAI client makes, polls, lists, downloads and deletes a video through the gateway.

Arguments: base URL of the gateway, token, model. Prints `ok` when everything held.
"""

import sys

import openai


def main():
    base, token, model = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=token, max_retries=0)

    models = {entry.id for entry in client.models.list()}
    assert model in models, models

    created = client.videos.create(model=model, prompt="a green square moving left on a black background", size="64x64")
    assert created.object == "video" and created.status in ("queued", "in_progress"), created
    assert created.model == model and created.size == "64x64", created

    done = client.videos.poll(created.id, poll_interval_ms=100)
    assert done.id == created.id and done.status == "completed" and done.progress == 100, done
    assert done.completed_at >= done.created_at and float(done.seconds) > 0 and done.error is None, done

    second = client.videos.create_and_poll(
        model=model, prompt="a red circle moving right on a black background", poll_interval_ms=100
    )
    assert second.status == "completed", second

    page = client.videos.list(limit=1)
    assert [video.id for video in page.data] == [second.id] and page.has_more, page
    everything = [video.id for video in client.videos.list(limit=1)]  # follows the pages
    assert everything[:2] == [second.id, created.id], everything
    oldest_first = [video.id for video in client.videos.list(order="asc")]
    assert oldest_first == everything[::-1], oldest_first

    content = client.videos.download_content(created.id).read()
    assert content[4:8] == b"ftyp" and len(content) > 1000, content[:16]

    deleted = client.videos.delete(created.id)
    assert deleted.deleted and deleted.id == created.id, deleted
    for call in (client.videos.retrieve, client.videos.download_content, client.videos.delete):
        try:
            call(created.id)
        except openai.NotFoundError as error:
            assert error.body["code"] == "job_not_found", error.body
        else:
            raise AssertionError(f"{call} found a deleted video")

    for arguments, field in [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 1001}, "prompt"),
        ({"prompt": "a", "size": "65x64"}, "size"),
        ({"prompt": "a", "seconds": "never"}, "seconds"),
    ]:
        try:
            client.videos.create(model=model, **arguments)
        except openai.BadRequestError as error:
            assert error.body["param"] == field, (field, error.body)
        else:
            raise AssertionError(f"{field} was accepted")
    try:
        client.videos.create(model="nobody", prompt="a")
    except openai.NotFoundError as error:
        assert error.body["code"] == "model_not_found", error.body
    else:
        raise AssertionError("an unknown model was accepted")
    try:
        openai.OpenAI(base_url=f"{base}/v1", api_key="nonsense", max_retries=0).models.list()
    except openai.AuthenticationError:
        pass
    else:
        raise AssertionError("a bad token was accepted")
    print("ok")


if __name__ == "__main__":
    main()
