import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from plr_edge.replay.cosine_classifier import COSINE_SCALE, CosineClassifier


def automatic(weight, features, labels, prior):
    """The same loss by automatic differentiation: the oracle."""
    cosines = functional.linear(functional.normalize(features), functional.normalize(weight))
    return functional.cross_entropy(COSINE_SCALE * cosines + torch.log(prior + 1e-4), labels)


@pytest.mark.parametrize("n_classes", [2, 10, 300])
def test_the_closed_form_takes_the_steps_of_automatic_differentiation(n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    start = torch.randn(n_classes, 24, generator=generator)
    classifier = CosineClassifier(24, lr=0.1, momentum=0.9)
    classifier.grow(n_classes)
    classifier.weight.copy_(start)
    weight = nn.Parameter(start.clone())
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    prior = torch.zeros(n_classes)
    for _ in range(5):
        features = torch.rand(16, 24, generator=generator).requires_grad_()
        labels = torch.randint(n_classes, (16,), generator=generator)
        prior = 0.95 * prior + 0.05 * torch.bincount(labels, minlength=n_classes) / 16
        expected = automatic(weight, features, labels, prior)
        optimizer.zero_grad()
        expected.backward()
        loss = classifier.loss(features.detach(), labels)
        torch.testing.assert_close(loss.value, expected.detach())
        torch.testing.assert_close(
            classifier.feature_gradient(loss), features.grad, atol=1e-6, rtol=1e-4
        )
        optimizer.step()
        classifier.step(loss)
        torch.testing.assert_close(classifier.weight, weight.detach(), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(classifier.prior, prior)


def test_logits_are_scaled_cosines_and_features_are_left_alone():
    classifier = CosineClassifier(8, lr=0.1, momentum=0.9)
    classifier.grow(3)
    classifier.weight.copy_(torch.randn(3, 8))
    features = torch.randn(5, 8)
    before = features.clone()
    expected = functional.cosine_similarity(features[:, None], classifier.weight[None], dim=2)
    torch.testing.assert_close(classifier.logits(features), COSINE_SCALE * expected)
    torch.testing.assert_close(features, before)


def test_new_classes_keep_the_weight_and_the_velocity_of_old_ones():
    classifier = CosineClassifier(8, lr=0.1, momentum=0.9)
    classifier.grow(2)
    classifier.imprint(0, torch.eye(8)[:1])
    classifier.imprint(1, torch.eye(8)[1:2])
    classifier.step(classifier.loss(torch.rand(4, 8), torch.tensor([0, 1, 0, 1])))
    weight, velocity = classifier.weight.clone(), classifier._velocity.clone()
    classifier.grow(5)
    assert classifier.n_classes == 5
    torch.testing.assert_close(classifier.weight[:2], weight)
    torch.testing.assert_close(classifier._velocity[:2], velocity)
    assert not classifier._velocity[2:].any()


def test_a_feature_of_zeros_gives_a_finite_weight():
    classifier = CosineClassifier(8, lr=0.1, momentum=0.9)
    classifier.grow(2)
    loss = classifier.loss(torch.zeros(2, 8), torch.tensor([0, 1]))
    assert torch.isfinite(loss.value)
    classifier.step(loss)
    assert np.isfinite(classifier.weight.numpy()).all()


def test_a_weight_is_the_mean_of_all_samples_it_was_imprinted_with():
    x = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    whole, parts = CosineClassifier(8, 0.1, 0.9), CosineClassifier(8, 0.1, 0.9)
    for classifier in (whole, parts):
        classifier.grow(1)
    whole.imprint(0, x)
    direction = functional.normalize(functional.normalize(x).sum(0), dim=0)
    torch.testing.assert_close(whole.weight[0], direction)
    parts.imprint(0, x[:1])
    parts.imprint(0, x[1:])
    torch.testing.assert_close(parts.weight, whole.weight)
