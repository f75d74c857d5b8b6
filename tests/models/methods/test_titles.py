"""Headers name papers by their published titles, so that readers find them."""

import pytest

from tests.models.methods.test_headers import header

#: File of a method or plug-in to the title that stands on its paper.
TITLES = {
    "methods/corect/method.py": "Conversation Understanding using Relational Temporal Graph Neural "
    "Networks with Auxiliary Cross-Modality Interaction",
    "methods/multidag_cl/method.py": "Curriculum Learning Meets Directed Acyclic Graph for "
    "Multimodal Emotion Recognition",
    "methods/mi_cga/method.py": "Mi-CGA: Cross-modal Graph Attention Network for Robust Emotion "
    "Recognition in the Presence of Incomplete Modalities",
    "methods/ada2i.py": "Ada2I: Enhancing Modality Balance for Multimodal Conversational Emotion "
    "Recognition",
    "plugins/spcl.py": "Leveraging Self-Paced Curriculum Learning for Enhanced Modality Balance in "
    "Multimodal Conversational Emotion Recognition",
    "methods/cage/method.py": "CAGE: Circumplex Affect Guided Expression Inference",
    "methods/huo_ge_vad/method.py": "Multi-Task Emotion Recognition Based on Dimensional Model and "
    "Category Label",
    "methods/emi/method.py": "Multimodal Emotion Regression with Multi-Objective Optimization and "
    "VAD-Aware Audio Modeling for the 10th ABAW EMI Track",
    "methods/haemsa/method.py": "Hierarchical Adaptive Expert for Multimodal Sentiment Analysis",
    "plugins/fagm.py": "Unlocking the Power of Multimodal Learning for Emotion Recognition in "
    "Conversation",
}


@pytest.mark.parametrize("file", TITLES)
def test_a_header_has_the_papers_title(file):
    # sentence case is as good as the title case of a proceedings' page
    assert f'"{TITLES[file]}"'.lower() in header(file).lower()
